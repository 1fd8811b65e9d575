use super::*;

const ESX1: &str = "iqn.1998-01.com.vmware:esx1";

fn lu(number: u8) -> Guid {
    Guid::generate(u32::from(number), scsi_core::GuidHost::HostId(0), 0, 0)
}

fn with_groups() -> Config {
    let mut config = Config::new();
    for (kind, name) in [(GroupKind::Host, "GW1"), (GroupKind::Host, "gw1"), (GroupKind::Target, "tg1")] {
        let change = config.create_group(kind, name).unwrap();
        config.commit(change);
    }
    config
}

fn commit_view(config: &mut Config, lu: Guid, host_group: Option<&str>, lun: Option<u64>) -> ViewEntry {
    let (change, entry) = config.add_view(&NewView { lu, host_group, target_group: None, lun }).unwrap();
    config.commit(change);
    entry
}

#[test]
fn group_names_are_case_sensitive_and_listed_in_order_of_creation() {
    let config = with_groups();
    let names: Vec<_> = config.groups(GroupKind::Host).map(Group::name).collect();
    assert_eq!(names, ["GW1", "gw1"]);
    assert_eq!(config.create_group(GroupKind::Host, "gw1").unwrap_err().to_string(), "gw1: already exists");
}

#[test]
fn names_that_mean_all_or_break_a_listing_are_refused() {
    let config = Config::new();
    for name in ["", "*", "*x", "a\tb", "a\nb", &"x".repeat(256)] {
        assert!(matches!(config.create_group(GroupKind::Host, name), Err(ConfigError::InvalidGroupName { .. })));
    }
    assert!(config.create_group(GroupKind::Host, &"x".repeat(255)).is_ok());
}

#[test]
fn a_member_is_in_one_group_only_whatever_its_case() {
    let mut config = with_groups();
    let change = config.add_member(GroupKind::Host, "GW1", "wwn.210000e08b100163").unwrap();
    config.commit(change);
    let error = config.add_member(GroupKind::Host, "gw1", "WWN.210000E08B100163").unwrap_err();
    assert_eq!(error.to_string(), "wwn.210000E08B100163: already exists");
    assert!(error.hint().contains("host group GW1"));
    assert_eq!(config.group_of(GroupKind::Host, "wwn.210000E08B100163").unwrap().name(), "GW1");
}

#[test]
fn members_keep_their_order_of_insertion() {
    let mut config = with_groups();
    for name in ["iqn.c", "iqn.a", "iqn.b"] {
        let change = config.add_member(GroupKind::Target, "tg1", name).unwrap();
        config.commit(change);
    }
    let change = config.remove_member(GroupKind::Target, "tg1", "iqn.a").unwrap();
    config.commit(change);
    let change = config.add_member(GroupKind::Target, "tg1", "iqn.a").unwrap();
    config.commit(change);
    let group = config.group(GroupKind::Target, "tg1").unwrap();
    assert_eq!(group.members().map(DeviceName::as_str).collect::<Vec<_>>(), ["iqn.c", "iqn.b", "iqn.a"]);
}

#[test]
fn leaving_a_group_one_is_not_in_tells_which_one_it_is() {
    let mut config = with_groups();
    let change = config.add_member(GroupKind::Host, "GW1", ESX1).unwrap();
    config.commit(change);
    let error = config.remove_member(GroupKind::Host, "gw1", ESX1).unwrap_err();
    assert_eq!(error.to_string(), format!("{ESX1}: not found"));
    assert_eq!(error.hint(), "it is a member of host group GW1");
}

#[test]
fn a_group_with_views_stays_and_one_with_members_goes() {
    let mut config = with_groups();
    let change = config.add_member(GroupKind::Host, "GW1", ESX1).unwrap();
    config.commit(change);
    commit_view(&mut config, lu(1), Some("GW1"), Some(0));
    let error = config.delete_group(GroupKind::Host, "GW1").unwrap_err();
    assert_eq!(error.to_string(), "group is in use by existing view entry");
    let change = config.remove_views(lu(1)).unwrap();
    config.commit(change);
    let change = config.delete_group(GroupKind::Host, "GW1").unwrap();
    config.commit(change);
    assert!(config.group_of(GroupKind::Host, ESX1).is_none());
    assert!(config.add_member(GroupKind::Host, "gw1", ESX1).is_ok());
}

#[test]
fn unknown_groups_and_luns_out_of_range_are_refused_for_views() {
    let config = with_groups();
    let view = |host_group, target_group, lun| NewView { lu: lu(1), host_group, target_group, lun };
    let words = |view| config.add_view(&view).unwrap_err().to_string();
    assert_eq!(words(view(Some("nobody"), Some("nobody"), None)), "invalid host group");
    assert_eq!(words(view(Some("GW1"), Some("nobody"), None)), "invalid target group");
    assert_eq!(words(view(None, None, Some(16384))), "16384: Logical unit number must be less than 16384");
    assert_eq!(words(view(None, None, Some(1 << 40))), "1099511627776: Logical unit number must be less than 16384");
}

#[test]
fn removing_views_that_are_not_there_says_so() {
    let mut config = with_groups();
    assert_eq!(config.remove_views(lu(1)).unwrap_err(), ConfigError::NoViews(lu(1)));
    commit_view(&mut config, lu(1), None, None);
    assert_eq!(config.remove_view(lu(1), 3).unwrap_err(), ConfigError::ViewNotFound { lu: lu(1), index: 3 });
}

#[test]
fn rows_make_the_same_configuration_again() {
    let mut config = with_groups();
    let change = config.add_member(GroupKind::Host, "gw1", ESX1).unwrap();
    config.commit(change);
    commit_view(&mut config, lu(1), Some("GW1"), Some(300));
    commit_view(&mut config, lu(2), None, None);
    let change = config.set_settings(Settings { access: Access::Named, ..Settings::default() });
    config.commit(change);
    let mut rows: Vec<Row> = config.rows().collect();
    rows.reverse();
    let (again, problems) = Config::load(rows);
    assert_eq!(problems, []);
    assert_eq!(again, config);
}

#[test]
fn loading_takes_what_is_valid_and_tells_the_rest() {
    let mut config = with_groups();
    commit_view(&mut config, lu(1), Some("GW1"), Some(0));
    let mut rows: Vec<Row> = config.rows().collect();
    let scope = Scope { host_group: Some(GroupId(77)), target_group: None };
    rows.push(Row::View(ViewEntry { lu: lu(2), index: 0, scope, lun: 3 }));
    let scope = Scope { host_group: None, target_group: None };
    rows.push(Row::View(ViewEntry { lu: lu(3), index: 0, scope, lun: 0 }));
    let (loaded, problems) = Config::load(rows);
    assert_eq!(loaded, config);
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            format!("view/{:X}/0000000000: there is no host group number 77", lu(2)),
            format!("view/{:X}/0000000000: LUN already in use", lu(3)),
        ]
    );
}

#[test]
fn a_batch_is_one_change_and_leaves_no_trace_when_it_fails() {
    let mut config = Config::new();
    let change = config
        .batch(|draft| {
            draft.apply(draft.config().create_group(GroupKind::Host, "ESX1")?);
            draft.apply(draft.config().add_member(GroupKind::Host, "ESX1", ESX1)?);
            let view = NewView { lu: lu(1), host_group: Some("ESX1"), target_group: None, lun: Some(1) };
            draft.apply(draft.config().add_view(&view)?.0);
            Ok::<_, ConfigError>(())
        })
        .unwrap();
    assert_eq!(change.edits().len(), 3);
    assert_eq!(config, Config::new());
    config.commit(change);
    assert_eq!(config.resolve(config.scope_of(ESX1, "iqn.t"))[0].lun, 1);

    let before = config.clone();
    let refused = config.batch(|draft| {
        draft.apply(draft.config().create_group(GroupKind::Host, "GW1")?);
        draft.apply(draft.config().create_group(GroupKind::Host, "ESX1")?);
        Ok::<_, ConfigError>(())
    });
    assert!(refused.is_err());
    assert_eq!(config, before);
}

#[test]
fn keys_are_distinct_paths() {
    let key = |row: Row| row.key().to_string();
    assert_eq!(key(Row::Settings(Settings::default())), "settings");
    let group = Row::Group { kind: GroupKind::Target, id: GroupId(12), name: "x".into() };
    assert_eq!(key(group), "group/target/0000000012");
    let edit = Edit::DeleteMember { kind: GroupKind::Host, name: DeviceName::parse(ESX1).unwrap() };
    assert_eq!(edit.key().to_string(), format!("member/host/{ESX1}"));
}
