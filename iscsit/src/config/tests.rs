use super::*;

const IQN: &str = "iqn.2026-11.org.example:disk1";

fn named(name: &str) -> TargetPatch {
    TargetPatch { name: Some(name.into()), ..TargetPatch::default() }
}

fn groups(names: &[&str]) -> Patch<Vec<String>> {
    Patch::Set(names.iter().map(|name| name.to_string()).collect())
}

fn with_groups(list: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    for (name, portal) in list {
        config.commit(config.plan_create_portal_group(name, &[portal]).unwrap());
    }
    config
}

fn tags(config: &Config, names: &[&str]) -> Vec<(String, u16)> {
    let patch = TargetPatch { portal_groups: groups(names), ..named(IQN) };
    let Change::PutTarget(target) = config.plan_create_target(&patch, [0; 16]).unwrap().1 else { panic!() };
    target.portal_groups.into_iter().map(|tagged| (tagged.group, tagged.tag)).collect()
}

#[test]
fn names_are_looked_up_folded() {
    let mut config = Config::default();
    let (_, change) = config.plan_create_target(&named("IQN.2026-11.org.Example:Disk1"), [0; 16]).unwrap();
    config.commit(change);
    assert_eq!(config.target("iqn.2026-11.ORG.example:disk1").unwrap().name.as_str(), IQN);
    let error = config.plan_create_target(&named("iqn.2026-11.org.example:DISK1"), [0; 16]).unwrap_err();
    assert_eq!(error.to_string(), format!("iSCSI target {IQN} already configured"));
}

#[test]
fn the_mixed_case_initiator_matches_its_login_name() {
    let mut config = Config::default();
    let patch = InitiatorPatch { chap_secret: Patch::Set(b"a secret of vh1".to_vec()), ..Default::default() };
    config.commit(config.plan_create_initiator("iqn.1998-01.com.VMware:VH1", &patch).unwrap());
    let initiator = config.initiator("iqn.1998-01.com.vmware:vh1").unwrap();
    assert_eq!(initiator.effective_chap_user(), "iqn.1998-01.com.vmware:vh1");
    assert_eq!(initiator.chap_secret.as_ref().unwrap().expose(), b"a secret of vh1");
}

#[test]
fn a_numeric_group_name_is_its_tag() {
    let config = with_groups(&[("2", "192.0.2.1"), ("tpgx", "192.0.2.2"), ("7", "192.0.2.3"), ("1", "192.0.2.4")]);
    assert_eq!(tags(&config, &["2"]), [("2".into(), 2)]);
    assert_eq!(tags(&config, &["7", "tpgx"]), [("7".into(), 7), ("tpgx".into(), 8)]);
    // Tag 1 is the default group's.
    assert_eq!(tags(&config, &["1"]), [("1".into(), 2)]);
    // The number is taken: one more than the highest.
    assert_eq!(tags(&config, &["tpgx", "2"]), [("tpgx".into(), 2), ("2".into(), 3)]);
}

#[test]
fn the_highest_tag_does_not_run_over() {
    let config = with_groups(&[("65535", "192.0.2.1"), ("x", "192.0.2.2")]);
    assert_eq!(tags(&config, &["65535", "x"]), [("x".into(), 2), ("65535".into(), 65535)]);
}

#[test]
fn a_group_keeps_its_tag_when_others_come_and_go() {
    let mut config = with_groups(&[("a", "192.0.2.1"), ("b", "192.0.2.2"), ("c", "192.0.2.3")]);
    let patch = TargetPatch { portal_groups: groups(&["a", "b"]), ..named(IQN) };
    config.commit(config.plan_create_target(&patch, [0; 16]).unwrap().1);
    let patch = TargetPatch { portal_groups: groups(&["c", "b"]), ..TargetPatch::default() };
    for change in config.plan_modify_target(IQN, &patch, true).unwrap().1 {
        config.commit(change);
    }
    let target = config.target(IQN).unwrap();
    let tags: Vec<_> = target.portal_groups.iter().map(|t| (t.group.as_str(), t.tag)).collect();
    assert_eq!(tags, [("b", 3), ("c", 4)]);
    assert_eq!(config.tag_at(target, "192.0.2.3".parse().unwrap()), Some(4));
    assert_eq!(config.tag_at(target, "192.0.2.1".parse().unwrap()), None);
}

#[test]
fn a_portal_is_in_one_group_only() {
    let config = with_groups(&[("2", "192.0.2.1:3260")]);
    let error = config.plan_create_portal_group("3", &["192.0.2.9", "192.0.2.1"]).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("Portal 192.0.2.1:3260 already in use", 17));
    let error = config.plan_create_portal_group("3", &["192.0.2.9", "192.0.2.9:3260"]).unwrap_err();
    assert_eq!(error.to_string(), "Portal 192.0.2.9:3260 already in use");
    assert!(config.plan_create_portal_group("3", &["192.0.2.1:3261"]).is_ok());
}

#[test]
fn portal_groups_need_portals_and_a_usable_name() {
    let config = with_groups(&[("2", "192.0.2.1")]);
    let none: [&str; 0] = [];
    let error = config.plan_create_portal_group("3", &none).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("Error, no portal addresses specified", 22));
    let error = config.plan_create_portal_group("2", &["192.0.2.2"]).unwrap_err();
    assert_eq!(error.to_string(), "Target Portal Group 2 already exists");
    for name in ["", "a,b", "default"] {
        let error = config.plan_create_portal_group(name, &["192.0.2.2"]).unwrap_err();
        assert!(matches!(error, ConfigError::InvalidGroupName { .. }), "{name}");
    }
}

#[test]
fn a_group_in_use_goes_only_by_force() {
    let mut config = with_groups(&[("2", "192.0.2.1")]);
    let patch = TargetPatch { portal_groups: groups(&["2"]), ..named(IQN) };
    config.commit(config.plan_create_target(&patch, [0; 16]).unwrap().1);
    let error = config.plan_delete_portal_group("2", false).unwrap_err();
    assert_eq!(error.to_string(), "Target portal group associated with one or more targets.  Cannot delete.");
    for change in config.plan_delete_portal_group("2", true).unwrap() {
        config.commit(change);
    }
    assert!(config.target(IQN).unwrap().portal_groups.is_empty() && config.portal_group("2").is_none());
}

#[test]
fn unknown_groups_are_named_in_the_words_of_the_command() {
    let mut config = Config::default();
    let patch = TargetPatch { portal_groups: groups(&["9"]), ..named(IQN) };
    let error = config.plan_create_target(&patch, [0; 16]).unwrap_err();
    assert_eq!(error.to_string(), "Invalid tpg-tag 9, tag not defined");
    config.commit(config.plan_create_target(&named(IQN), [0; 16]).unwrap().1);
    let error = config.plan_modify_target(IQN, &patch, false).unwrap_err();
    assert_eq!(error.to_string(), "Invalid tpg-name 9: not defined");
}

#[test]
fn an_online_target_is_neither_renamed_nor_deleted_without_force() {
    let mut config = Config::default();
    config.commit(config.plan_create_target(&named(IQN), [0; 16]).unwrap().1);
    let busy = format!("The target is online or busy. Use the -f (force) option, or 'stmfadm offline-target {IQN}'");
    assert_eq!(config.plan_delete_target(IQN, true, false).unwrap_err().to_string(), busy);
    assert!(config.plan_delete_target(IQN, true, true).is_ok());
    let rename = named("iqn.2026-11.org.example:disk2");
    assert_eq!(config.plan_modify_target(IQN, &rename, true).unwrap_err().exit_code(), 16);
    let (name, changes) = config.plan_modify_target(IQN, &rename, false).unwrap();
    changes.into_iter().for_each(|change| config.commit(change));
    assert!(config.target(IQN).is_none() && config.target(name.as_str()).is_some());
}

#[test]
fn a_target_can_be_renamed_to_itself_but_not_onto_another() {
    let mut config = Config::default();
    for name in [IQN, "iqn.2026-11.org.example:disk2"] {
        config.commit(config.plan_create_target(&named(name), [0; 16]).unwrap().1);
    }
    assert!(config.plan_modify_target(IQN, &named(IQN), true).is_ok());
    let error = config.plan_modify_target(IQN, &named("iqn.2026-11.org.example:disk2"), false).unwrap_err();
    assert_eq!(error.to_string(), "A target with name iqn.2026-11.org.example:disk2 already exists");
}

#[test]
fn every_wrong_property_is_listed() {
    let patch = TargetPatch {
        alias: Patch::Set(String::new()),
        auth: Patch::Set(AuthMethod::Radius),
        chap_secret: Patch::Set(b"short".to_vec()),
        ..named(IQN)
    };
    let error = Config::default().plan_create_target(&patch, [0; 16]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Error setting target properties: 22\n\talias: must be a string value\n\ttargetchapsecret: secret too short\n\
         \tradiusserver: missing required property\n\tradiussecret: missing required property"
    );
}

#[test]
fn radius_cannot_lose_its_server_while_someone_needs_it() {
    let mut config = Config::default();
    let server = DefaultsPatch {
        radius_servers: Patch::Set(vec![Portal::parse("192.0.2.5", 1812).unwrap()]),
        radius_secret: Patch::Set(b"shared with the server".to_vec()),
        auth: Patch::Set(AuthMethod::Radius),
        ..DefaultsPatch::default()
    };
    config.commit(config.plan_modify_defaults(&server).unwrap());
    let away = DefaultsPatch { radius_servers: Patch::Clear, ..DefaultsPatch::default() };
    assert!(config.plan_modify_defaults(&away).is_err());
    let both = DefaultsPatch { auth: Patch::Clear, ..away };
    assert!(config.plan_modify_defaults(&both).is_ok());
}

#[test]
fn the_target_override_wins_over_the_default_method() {
    let mut config = Config::default();
    config.commit(config.plan_create_target(&named(IQN), [0; 16]).unwrap().1);
    assert_eq!(config.effective_auth(config.target(IQN).unwrap()), AuthMethod::None);
    let chap = DefaultsPatch { auth: Patch::Set(AuthMethod::Chap), ..DefaultsPatch::default() };
    config.commit(config.plan_modify_defaults(&chap).unwrap());
    assert_eq!(config.effective_auth(config.target(IQN).unwrap()), AuthMethod::Chap);
    let none = TargetPatch { auth: Patch::Set(AuthMethod::None), ..TargetPatch::default() };
    config.plan_modify_target(IQN, &none, true).unwrap().1.into_iter().for_each(|change| config.commit(change));
    assert_eq!(config.effective_auth(config.target(IQN).unwrap()), AuthMethod::None);
}

#[test]
fn isns_servers_end_at_eight() {
    let servers = |n: u8| (0..n).map(|i| Portal::parse(&format!("192.0.2.{}", i + 1), 3205).unwrap()).collect();
    let patch = |n| DefaultsPatch { isns_servers: Patch::Set(servers(n)), ..DefaultsPatch::default() };
    assert!(Config::default().plan_modify_defaults(&patch(8)).is_ok());
    let error = Config::default().plan_modify_defaults(&patch(9)).unwrap_err();
    assert_eq!(error.to_string(), "Too many iSNS servers specified, maximum of 8 allowed");
}

#[test]
fn loading_keeps_what_is_valid_and_never_widens_a_target() {
    let group = |name: &str, portal: &str| PortalGroup { name: name.into(), portals: vec![portal.parse().unwrap()] };
    let mut narrowed = Target::new(IscsiName::parse(IQN).unwrap());
    narrowed.portal_groups.push(TaggedGroup { group: "gone".into(), tag: 2 });
    let open = Target::new(IscsiName::parse("iqn.2026-11.org.example:open").unwrap());
    let (config, problems) =
        Config::load([narrowed, open], [group("a", "192.0.2.1"), group("b", "192.0.2.1")], [], Defaults::default());
    assert_eq!(config.targets().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["iqn.2026-11.org.example:open"]);
    assert_eq!(config.portal_groups().count(), 1);
    assert_eq!(problems.len(), 4);
}
