//! The target's login phase: stages, keys, CHAP, refusals.

use std::fmt::Write;
use std::sync::Arc;

use iscsi_proto::auth::chap::{Algorithm, Credentials, Secret};
use iscsi_proto::digest::Digests;
use iscsi_proto::login::*;
use iscsi_proto::pdu::*;
use iscsi_proto::sn::CmdSn;
use iscsi_proto::text::{self, Phases, encode_hex};
use proptest::prelude::*;

const SECURITY: Stage = Stage::SECURITY_NEGOTIATION;
const OPERATIONAL: Stage = Stage::OPERATIONAL_NEGOTIATION;
const FULL_FEATURE: Stage = Stage::FULL_FEATURE_PHASE;
const NAMES: &str = "InitiatorName=iqn.2026-11.org.example:host\nTargetName=iqn.2026-11.org.example:disk";
const CHALLENGE: [u8; 32] = [0xa5; 32];

fn block(lines: &str) -> Vec<u8> {
    lines.lines().filter(|line| !line.is_empty()).flat_map(|line| line.bytes().chain([0])).collect()
}

fn request(current: Stage, next: Option<Stage>, lines: &str) -> LoginRequest {
    LoginRequest {
        flags: LoginFlags { transit: next.is_some(), is_continued: false, current, next: next.unwrap_or_default() },
        isid: Isid([0x80, 1, 2, 3, 0, 0]),
        initiator_task_tag: InitiatorTaskTag(0x11),
        cid: Cid(1),
        cmd_sn: CmdSn(5),
        data: block(lines).into(),
        ..LoginRequest::default()
    }
}

fn lines(response: &LoginResponse) -> Vec<String> {
    let data = response.data.to_contiguous();
    text::parse(&data).unwrap().into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

fn credentials(name: &str, secret: &str) -> Credentials {
    Credentials { name: name.into(), secret: Secret::new(secret) }
}

fn chap() -> ChapPolicy {
    ChapPolicy {
        identifier: 9,
        challenge: CHALLENGE.to_vec(),
        minimum: Algorithm::MD5,
        verifier: ChapVerifier::Credentials(credentials("host", "initiator secret")),
        mutual: Some(credentials("disk", "secret of target")),
    }
}

/// A target whose owner says yes to everything, under a policy.
struct Target {
    login: TargetLogin,
    policy: LoginPolicy,
    failure: Option<LoginFailure>,
    verdict: Option<bool>,
}

impl Target {
    fn new(policy: LoginPolicy) -> Self {
        Self { login: TargetLogin::new(Arc::new(LoginConfig::default())), policy, failure: None, verdict: None }
    }

    fn open() -> Self {
        Self::new(LoginPolicy::open(Some(1)))
    }

    fn chap(policy: ChapPolicy) -> Self {
        Self::new(LoginPolicy { auth: AuthPolicy::Chap(policy), ..LoginPolicy::open(Some(1)) })
    }

    fn send(&mut self, request: LoginRequest) -> LoginResponse {
        self.login.handle_request(request);
        while let Some(event) = self.login.poll_event() {
            match event {
                LoginEvent::Identify(_) => self.login.accept(self.policy.clone()),
                LoginEvent::Verify(_) => {
                    if let Some(verdict) = self.verdict {
                        self.login.verified(verdict);
                    }
                }
                LoginEvent::Negotiated(_) => self.login.complete(Tsih(77)),
                LoginEvent::Failed(failure) => self.failure = Some(failure),
                _ => unreachable!(),
            }
        }
        let response = self.login.poll_response().expect("one response to each request");
        assert!(self.login.poll_response().is_none());
        response
    }

    fn refuses(mut self, requests: impl IntoIterator<Item = LoginRequest>) -> LoginStatus {
        let mut last = LoginResponse::default();
        for request in requests {
            assert!(last.status.is_success(), "refused too early");
            last = self.send(request);
        }
        assert!(self.login.is_failed());
        assert_eq!(self.failure.unwrap().status, last.status);
        assert!(!last.flags.transit);
        last.status
    }
}

#[test]
fn a_login_without_security_takes_one_exchange() {
    let mut target = Target::open();
    let offers = format!("{NAMES}\nHeaderDigest=CRC32C,None\nMaxBurstLength=1048576\nInitialR2T=No\nX-foo=bar");
    let response = target.send(request(OPERATIONAL, Some(FULL_FEATURE), &offers));
    assert_eq!(response.status, LoginStatus::SUCCESS);
    assert!(response.flags.transit && target.login.is_done());
    assert_eq!((response.flags.current, response.flags.next), (OPERATIONAL, FULL_FEATURE));
    assert_eq!(response.tsih, Tsih(77));
    assert_eq!(
        lines(&response),
        [
            "TargetPortalGroupTag=1",
            "HeaderDigest=CRC32C",
            "MaxBurstLength=1048576",
            "InitialR2T=No",
            "X-foo=NotUnderstood",
            "MaxRecvDataSegmentLength=262144"
        ]
    );
    let parameters = target.login.parameters();
    assert_eq!(parameters.connection.digests, Digests { header: true, data: false });
    assert_eq!(parameters.session.max_burst_length, 1_048_576);
    assert!(!parameters.session.initial_r2t);
}

#[test]
fn security_then_operational_then_full_feature() {
    let mut target = Target::open();
    let response = target.send(request(SECURITY, Some(OPERATIONAL), &format!("{NAMES}\nAuthMethod=CHAP,None")));
    assert!(response.flags.transit);
    assert_eq!(lines(&response), ["AuthMethod=None", "TargetPortalGroupTag=1"]);
    assert_eq!(response.tsih, Tsih(0));
    let response = target.send(request(OPERATIONAL, Some(FULL_FEATURE), "MaxRecvDataSegmentLength=65536"));
    assert!(response.flags.transit && target.login.is_done());
    assert_eq!(target.login.parameters().connection.max_send_data_segment_length, 65536);
    assert_eq!(target.login.parameters().connection.max_recv_data_segment_length, 262_144);
}

#[test]
fn without_an_operational_stage_the_defaults_hold() {
    let mut target = Target::open();
    target.send(request(SECURITY, Some(FULL_FEATURE), NAMES));
    assert!(target.login.is_done());
    assert_eq!(target.login.parameters(), Parameters::default());
}

#[test]
fn the_owner_learns_who_wants_what() {
    let mut login = TargetLogin::new(Arc::default());
    let names = "InitiatorName=iqn.2026-11.org.Example:HOST\nInitiatorAlias=box\nSessionType=Discovery";
    login.handle_request(request(SECURITY, None, names));
    let Some(LoginEvent::Identify(identity)) = login.poll_event() else { panic!() };
    assert_eq!(identity.initiator_name.as_str(), "iqn.2026-11.org.example:host");
    assert_eq!(identity.initiator_alias.as_deref(), Some("box"));
    assert_eq!(identity.session_type, SessionType::Discovery);
    assert_eq!((identity.target_name.as_ref(), identity.cid, identity.cmd_sn), (None, Cid(1), CmdSn(5)));
    assert!(login.is_waiting() && login.poll_response().is_none());
}

#[test]
fn irrelevant_keys_of_a_discovery_session_are_called_so() {
    let mut target = Target::new(LoginPolicy::open(None));
    let response = target.send(request(
        OPERATIONAL,
        Some(FULL_FEATURE),
        "InitiatorName=iqn.x\nSessionType=Discovery\nMaxConnections=4\nDataDigest=None",
    ));
    assert_eq!(lines(&response)[..2], ["MaxConnections=Irrelevant", "DataDigest=None"]);
}

#[test]
fn values_out_of_range_are_rejected_and_change_nothing() {
    let mut target = Target::open();
    let response = target.send(request(
        OPERATIONAL,
        Some(FULL_FEATURE),
        &format!(
            "{NAMES}\nMaxBurstLength=511\nMaxOutstandingR2T=0\nImmediateData=yes\nErrorRecoveryLevel=3\nDataDigest=MD5"
        ),
    ));
    let expected = ["MaxBurstLength", "MaxOutstandingR2T", "ImmediateData", "ErrorRecoveryLevel", "DataDigest"];
    let expected: Vec<String> = expected.iter().map(|key| format!("{key}=Reject")).collect();
    assert_eq!(lines(&response)[1..6], expected);
    assert_eq!(target.login.parameters().session, SessionParameters::default());
}

#[test]
fn obsolete_markers_get_no_and_reject() {
    let mut target = Target::open();
    let keys = format!("{NAMES}\nIFMarker=Yes\nOFMarker=No\nIFMarkInt=2048~8192\nOFMarkInt=2048");
    let response = target.send(request(OPERATIONAL, Some(FULL_FEATURE), &keys));
    assert_eq!(lines(&response)[1..5], ["IFMarker=No", "OFMarker=No", "IFMarkInt=Reject", "OFMarkInt=Reject"]);
}

#[test]
fn first_burst_never_exceeds_max_burst() {
    let mut target = Target::open();
    let keys = format!("{NAMES}\nFirstBurstLength=262144\nMaxBurstLength=16384");
    let response = target.send(request(OPERATIONAL, Some(FULL_FEATURE), &keys));
    assert!(lines(&response).contains(&"FirstBurstLength=16384".to_owned()));
    assert_eq!(target.login.parameters().session.first_burst_length, 16384);
}

#[test]
fn leading_only_keys_of_a_further_connection_are_rejected() {
    let session =
        SessionParameters { max_burst_length: 4096, first_burst_length: 4096, ..SessionParameters::default() };
    let mut target = Target::new(LoginPolicy { session: Some(session), ..LoginPolicy::open(Some(1)) });
    let keys = format!("{NAMES}\nMaxBurstLength=65536\nHeaderDigest=CRC32C");
    let response = target.send(request(OPERATIONAL, Some(FULL_FEATURE), &keys));
    assert_eq!(lines(&response)[1..3], ["MaxBurstLength=Reject", "HeaderDigest=CRC32C"]);
    assert_eq!(target.login.parameters().session, session);
}

#[test]
fn a_required_digest_is_offered_by_the_target_and_then_insisted_upon() {
    let preferences = Preferences { header_digest: DigestPreference::Require, ..Preferences::default() };
    let policy = LoginPolicy { preferences: Some(preferences), ..LoginPolicy::open(Some(1)) };
    let mut target = Target::new(policy.clone());
    let response = target.send(request(OPERATIONAL, Some(FULL_FEATURE), NAMES));
    assert!(!response.flags.transit);
    assert!(lines(&response).contains(&"HeaderDigest=CRC32C".to_owned()));
    let response = target.send(request(OPERATIONAL, Some(FULL_FEATURE), "HeaderDigest=CRC32C"));
    assert!(response.flags.transit && target.login.parameters().connection.digests.header);

    let requests = [
        request(OPERATIONAL, Some(FULL_FEATURE), NAMES),
        request(OPERATIONAL, Some(FULL_FEATURE), "HeaderDigest=NotUnderstood"),
    ];
    assert_eq!(Target::new(policy.clone()).refuses(requests), LoginStatus::INITIATOR_ERROR);
    let requests = [request(SECURITY, Some(FULL_FEATURE), NAMES)];
    assert_eq!(Target::new(policy).refuses(requests), LoginStatus::INITIATOR_ERROR);
}

#[test]
fn text_split_by_the_c_bit_is_joined() {
    let mut target = Target::open();
    let whole = block(&format!("{NAMES}\nMaxBurstLength=65536"));
    let (first, second) = whole.split_at(70);
    let mut part = request(OPERATIONAL, None, "");
    part.flags.is_continued = true;
    part.data = first.to_vec().into();
    let response = target.send(part);
    assert!(response.data.is_empty() && !response.flags.transit && !response.flags.is_continued);
    let mut part = request(OPERATIONAL, Some(FULL_FEATURE), "");
    part.data = second.to_vec().into();
    assert!(target.send(part).flags.transit);
    assert_eq!(target.login.parameters().session.max_burst_length, 65536);
}

#[test]
fn a_long_answer_is_split_by_the_c_bit() {
    let mut target = Target::open();
    let mut keys = NAMES.to_owned();
    (0..600).for_each(|n| write!(keys, "\nX-org.example.{n}=1").unwrap());
    let mut response = target.send(request(OPERATIONAL, Some(FULL_FEATURE), &keys));
    let mut got = response.data.to_contiguous().to_vec();
    while response.flags.is_continued {
        assert!(!response.flags.transit && response.data.len() <= 8192);
        response = target.send(request(OPERATIONAL, Some(FULL_FEATURE), ""));
        got.extend_from_slice(&response.data.to_contiguous());
    }
    assert!(response.flags.transit && target.login.is_done());
    assert_eq!(text::parse(&got).unwrap().len(), 602);
}

#[test]
fn redirection_tells_the_new_address() {
    for (permanent, status) in
        [(false, LoginStatus::TARGET_MOVED_TEMPORARILY), (true, LoginStatus::TARGET_MOVED_PERMANENTLY)]
    {
        let mut login = TargetLogin::new(Arc::default());
        login.handle_request(request(SECURITY, None, NAMES));
        login.redirect(&["192.0.2.7:3260,1".into(), "[2001:db8::1]:3260,1".into()], permanent);
        let response = login.poll_response().unwrap();
        assert_eq!(response.status, status);
        assert_eq!(lines(&response), ["TargetAddress=192.0.2.7:3260,1", "TargetAddress=[2001:db8::1]:3260,1"]);
        assert!(login.is_failed());
    }
}

#[test]
fn the_owner_may_refuse_at_any_time_but_once() {
    let mut login = TargetLogin::new(Arc::default());
    login.handle_request(request(SECURITY, None, NAMES));
    login.refuse(LoginStatus::NOT_FOUND);
    login.refuse(LoginStatus::TARGET_ERROR);
    assert_eq!(login.poll_response().unwrap().status, LoginStatus::NOT_FOUND);
    assert_eq!(login.poll_response(), None);
    login.accept(LoginPolicy::open(None));
    login.complete(Tsih(1));
    assert!(login.is_failed() && login.poll_response().is_none());
}

#[test]
fn faults_get_their_status() {
    let step = |lines: &str| request(OPERATIONAL, Some(FULL_FEATURE), lines);
    let names = |more: &str| step(&format!("{NAMES}\n{more}"));
    let refused = |requests: &[LoginRequest]| Target::open().refuses(requests.to_vec());

    assert_eq!(refused(&[step("TargetName=iqn.x")]), LoginStatus::MISSING_PARAMETER);
    assert_eq!(refused(&[step("InitiatorName=iqn.x")]), LoginStatus::MISSING_PARAMETER);
    assert_eq!(refused(&[step("InitiatorName=bob\nTargetName=iqn.x")]), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&[names("SessionType=Backup")]), LoginStatus::SESSION_TYPE_NOT_SUPPORTED);
    assert_eq!(refused(&[names("MaxBurstLength")]), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&[names("ImmediateData=No\nImmediateData=No")]), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&[names("MaxRecvDataSegmentLength=100")]), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&[names("TargetAlias=mine")]), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&[names("AuthMethod=None")]), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&[names("SendTargets=All")]), LoginStatus::INITIATOR_ERROR);
    let security = |lines: &str| request(SECURITY, None, &format!("{NAMES}\n{lines}"));
    assert_eq!(refused(&[security("MaxBurstLength=512")]), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&[security("AuthMethod=CHAP")]), LoginStatus::AUTHENTICATION_FAILURE);
    assert_eq!(refused(&[security("AuthMethod=KRB5,CHAP")]), LoginStatus::AUTHENTICATION_FAILURE);
    assert_eq!(refused(&[security("CHAP_A=5")]), LoginStatus::INITIATOR_ERROR);

    let version = LoginRequest { version_min: 1, version_max: 2, ..names("") };
    assert_eq!(refused(&[version]), LoginStatus::UNSUPPORTED_VERSION);
    let first = request(SECURITY, None, NAMES);
    let second = |change: fn(&mut LoginRequest)| {
        let mut second = request(SECURITY, None, "");
        change(&mut second);
        [first.clone(), second]
    };
    assert_eq!(refused(&second(|request| request.cid = Cid(2))), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&second(|request| request.isid = Isid([1; 6]))), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&second(|request| request.cmd_sn = CmdSn(6))), LoginStatus::INITIATOR_ERROR);
    assert_eq!(refused(&second(|request| request.data = block(NAMES).into())), LoginStatus::INITIATOR_ERROR);
}

#[test]
fn another_pdu_is_invalid_during_login() {
    let mut login = TargetLogin::new(Arc::default());
    login.handle_other_pdu(InitiatorTaskTag(3));
    let response = login.poll_response().unwrap();
    assert_eq!(
        (response.status, response.initiator_task_tag),
        (LoginStatus::INVALID_DURING_LOGIN, InitiatorTaskTag(3))
    );
}

#[test]
fn a_login_that_never_ends_is_ended() {
    let mut target = Target::open();
    target.send(request(SECURITY, None, NAMES));
    let exchanges = (1..200).take_while(|_| target.send(request(SECURITY, None, "")).status.is_success()).count();
    assert_eq!(exchanges, 63);
    assert!(matches!(target.failure.unwrap().fault, LoginFault::TooManyExchanges(64)));
}

#[test]
fn endless_continued_text_is_ended() {
    let mut target = Target::new(LoginPolicy::open(None));
    target.login = TargetLogin::new(Arc::new(LoginConfig { max_text_bytes: 10_000, ..LoginConfig::default() }));
    let mut part = request(SECURITY, None, "");
    part.flags.is_continued = true;
    part.data = vec![b'a'; 8192].into();
    assert!(target.send(part.clone()).status.is_success());
    assert_eq!(target.send(part).status, LoginStatus::INITIATOR_ERROR);
}

/// Logs in by CHAP as `host` with a secret; gives the last response.
fn login_by_chap(target: &mut Target, secret: &str, mutual: &str) -> LoginResponse {
    login_by(Algorithm::SHA256, target, secret, mutual)
}

/// The same, where the target must choose this algorithm.
fn login_by(algorithm: Algorithm, target: &mut Target, secret: &str, mutual: &str) -> LoginResponse {
    let response = target.send(request(SECURITY, None, &format!("{NAMES}\nAuthMethod=CHAP,None")));
    assert_eq!(lines(&response), ["AuthMethod=CHAP", "TargetPortalGroupTag=1"]);
    let response = target.send(request(SECURITY, None, "CHAP_A=7,5"));
    let challenge = format!("CHAP_C={}", encode_hex(&CHALLENGE));
    assert_eq!(lines(&response), [format!("CHAP_A={}", algorithm.0), "CHAP_I=9".into(), challenge]);
    let proof = algorithm.respond(9, secret.as_bytes(), &CHALLENGE).unwrap();
    let keys = format!("CHAP_N=host\nCHAP_R={}\n{mutual}", encode_hex(&proof));
    target.send(request(SECURITY, Some(OPERATIONAL), &keys))
}

#[test]
fn the_right_secret_gets_in_and_the_wrong_one_does_not() {
    let mut target = Target::chap(chap());
    let response = login_by_chap(&mut target, "initiator secret", "");
    assert!(response.flags.transit && response.data.is_empty());
    assert_eq!(target.login.authenticated_as(), Some("host"));

    let mut target = Target::chap(chap());
    let response = login_by_chap(&mut target, "initiator secre", "");
    assert_eq!(response.status, LoginStatus::AUTHENTICATION_FAILURE);
    let failure = target.failure.unwrap();
    assert_eq!(failure.initiator_name.unwrap().as_str(), "iqn.2026-11.org.example:host");
    assert_eq!(failure.fault.to_string(), r#"wrong CHAP name or secret for "host""#);
}

#[test]
fn the_target_proves_itself_when_asked() {
    let mut target = Target::chap(chap());
    let response = login_by_chap(&mut target, "initiator secret", "CHAP_I=200\nCHAP_C=0b3q2+7w==");
    let proof = Algorithm::SHA256.respond(200, b"secret of target", &[0xde, 0xad, 0xbe, 0xef]).unwrap();
    assert_eq!(lines(&response), ["CHAP_N=disk".to_owned(), format!("CHAP_R={}", encode_hex(&proof))]);
}

#[test]
fn mutual_chap_is_refused_without_a_secret_or_with_a_shared_or_reflected_one() {
    let ask = "CHAP_I=200\nCHAP_C=0xdeadbeef";
    let mut target = Target::chap(ChapPolicy { mutual: None, ..chap() });
    assert_eq!(login_by_chap(&mut target, "initiator secret", ask).status, LoginStatus::AUTHENTICATION_FAILURE);
    let shared = Some(credentials("disk", "initiator secret"));
    let mut target = Target::chap(ChapPolicy { mutual: shared, ..chap() });
    assert_eq!(login_by_chap(&mut target, "initiator secret", ask).status, LoginStatus::AUTHENTICATION_FAILURE);
    let reflected = format!("CHAP_I=200\nCHAP_C={}", encode_hex(&CHALLENGE));
    let mut target = Target::chap(chap());
    assert_eq!(login_by_chap(&mut target, "initiator secret", &reflected).status, LoginStatus::AUTHENTICATION_FAILURE);
}

#[test]
fn a_verdict_may_come_from_outside_and_later() {
    let policy = ChapPolicy { verifier: ChapVerifier::External, ..chap() };
    for (verdict, status) in [(true, LoginStatus::SUCCESS), (false, LoginStatus::AUTHENTICATION_FAILURE)] {
        let mut target = Target::chap(policy.clone());
        target.verdict = Some(verdict);
        // RADIUS carries MD5 proofs only, so nothing else is chosen.
        assert_eq!(login_by(Algorithm::MD5, &mut target, "whatever it is", "").status, status);
    }
    let mut login = TargetLogin::new(Arc::default());
    login.handle_request(request(SECURITY, None, &format!("{NAMES}\nAuthMethod=CHAP")));
    login.accept(LoginPolicy { auth: AuthPolicy::Chap(policy), ..LoginPolicy::open(None) });
    login.handle_request(request(SECURITY, None, "CHAP_A=5"));
    login.handle_request(request(SECURITY, None, "CHAP_N=host\nCHAP_R=0x00112233445566778899aabbccddeeff"));
    let events: Vec<_> = std::iter::from_fn(|| login.poll_event()).collect();
    let Some(LoginEvent::Verify(proof)) = events.last() else { panic!() };
    assert_eq!((proof.name.as_str(), proof.identifier, &proof.challenge[..]), ("host", 9, &CHALLENGE[..]));
    assert!(login.is_waiting());
}

#[test]
fn chap_cannot_be_gone_around() {
    let policy = || Target::chap(chap());
    let operational = request(OPERATIONAL, Some(FULL_FEATURE), NAMES);
    assert_eq!(policy().refuses([operational]), LoginStatus::AUTHENTICATION_FAILURE);
    let without = request(SECURITY, Some(OPERATIONAL), NAMES);
    assert_eq!(policy().refuses([without]), LoginStatus::AUTHENTICATION_FAILURE);
    let none = request(SECURITY, None, &format!("{NAMES}\nAuthMethod=None"));
    assert_eq!(policy().refuses([none]), LoginStatus::AUTHENTICATION_FAILURE);
    // T before the proof is not followed.
    let mut target = policy();
    let response = target.send(request(SECURITY, Some(FULL_FEATURE), &format!("{NAMES}\nAuthMethod=CHAP")));
    assert!(!response.flags.transit && response.status.is_success());
    let jump = request(OPERATIONAL, Some(FULL_FEATURE), "");
    assert_eq!(target.send(jump).status, LoginStatus::INITIATOR_ERROR);
}

#[test]
fn weak_algorithms_can_be_refused() {
    let mut target = Target::chap(ChapPolicy { minimum: Algorithm::SHA256, ..chap() });
    target.send(request(SECURITY, None, &format!("{NAMES}\nAuthMethod=CHAP")));
    assert_eq!(target.send(request(SECURITY, None, "CHAP_A=5,6")).status, LoginStatus::AUTHENTICATION_FAILURE);
}

/// Every request header against every state the initiator can bring about: what comes back.
#[test]
fn the_transition_table_stands() {
    let mut table = String::from("stage        CSG NSG T C | answer\n");
    for (stage, name) in [(SECURITY, "security"), (OPERATIONAL, "operational")] {
        for bits in 0u8..64 {
            let flags = LoginFlags {
                current: Stage(bits >> 4),
                next: Stage(bits >> 2 & 3),
                transit: bits & 2 != 0,
                is_continued: bits & 1 != 0,
            };
            if !flags.transit && flags.next != SECURITY {
                continue;
            }
            let mut target = Target::open();
            assert!(target.send(request(stage, None, NAMES)).status.is_success());
            let response = target.send(LoginRequest { flags, ..request(stage, None, "") });
            let answer = match (response.status, target.login.is_done(), response.flags.transit) {
                (LoginStatus::SUCCESS, true, _) => "full feature phase".to_owned(),
                (LoginStatus::SUCCESS, false, true) => format!("on to {}", response.flags.next),
                (LoginStatus::SUCCESS, false, false) => "stay".to_owned(),
                (status, ..) => format!("{:04x}", status.0),
            };
            if answer == "0200" {
                continue;
            }
            let (csg, nsg) = (flags.current.0, flags.next.0);
            let (t, c) = (u8::from(flags.transit), u8::from(flags.is_continued));
            writeln!(table, "{name:12} {csg:3} {nsg:3} {t} {c} | {answer}").unwrap();
        }
    }
    let expected = "\
stage        CSG NSG T C | answer
security       0   0 0 0 | stay
security       0   0 0 1 | stay
security       0   1 1 0 | on to operational parameter negotiation
security       0   3 1 0 | full feature phase
operational    1   0 0 0 | stay
operational    1   0 0 1 | stay
operational    1   3 1 0 | full feature phase
";
    // Whatever is not in the table is answered 0200.
    assert_eq!(table, expected);
}

fn preferences() -> impl Strategy<Value = Preferences> {
    let digest = || {
        prop::sample::select(vec![
            DigestPreference::Refuse,
            DigestPreference::PreferNone,
            DigestPreference::PreferCrc32c,
            DigestPreference::Require,
        ])
    };
    let reporting =
        prop::sample::select(vec![TaskReporting::Rfc3720, TaskReporting::ResponseFence, TaskReporting::FastAbort]);
    (
        (any::<u16>(), any::<[bool; 4]>(), any::<[u32; 3]>(), any::<[u16; 3]>(), any::<[u8; 2]>()),
        (digest(), digest(), reporting),
    )
        .prop_map(|((connections, flags, lengths, [wait, retain, r2t], levels), (header, data, reporting))| {
            Preferences {
                session: SessionParameters {
                    max_connections: connections,
                    initial_r2t: flags[0],
                    immediate_data: flags[1],
                    max_burst_length: lengths[0] >> 6,
                    first_burst_length: lengths[1] >> 6,
                    default_time2wait: wait,
                    default_time2retain: retain,
                    max_outstanding_r2t: r2t,
                    data_pdu_in_order: flags[2],
                    data_sequence_in_order: flags[3],
                    error_recovery_level: levels[0],
                    task_reporting: reporting,
                    protocol_level: levels[1],
                },
                header_digest: header,
                data_digest: data,
                max_recv_data_segment_length: lengths[2] >> 8,
            }
        })
}

proptest! {
    #[test]
    fn both_ends_agree_whatever_they_prefer(ours in preferences(), theirs in preferences(), discovery in any::<bool>()) {
        let mut initiator = Negotiator::leading(Role::Initiator, ours);
        let mut target = Negotiator::leading(Role::Target, theirs);
        if discovery {
            initiator.set_session_type(SessionType::Discovery);
            target.set_session_type(SessionType::Discovery);
        }
        initiator.declare_receive_length();
        initiator.offer_all();
        target.handle_text(&initiator.take_reply(), Phases::OPERATIONAL).unwrap();
        target.declare_receive_length();
        initiator.handle_text(&target.take_reply(), Phases::OPERATIONAL).unwrap();
        prop_assert!(initiator.is_settled() && target.is_settled());

        let (i, t) = (initiator.parameters(), target.parameters());
        prop_assert_eq!(i.session, t.session);
        prop_assert_eq!(i.connection.digests, t.connection.digests);
        prop_assert_eq!(i.connection.max_recv_data_segment_length, t.connection.max_send_data_segment_length);
        prop_assert_eq!(i.connection.max_send_data_segment_length, t.connection.max_recv_data_segment_length);
        prop_assert!(i.session.first_burst_length <= i.session.max_burst_length);
    }

    #[test]
    fn no_text_panics_the_login(
        requests in prop::collection::vec((0u8..4, 0u8..4, any::<bool>(), any::<bool>(), arbitrary_text()), 1..8),
        with_chap in any::<bool>(),
    ) {
        let mut target = if with_chap { Target::chap(chap()) } else { Target::open() };
        let mut is_first = true;
        for (current, next, transit, is_continued, text) in requests {
            let text = if is_first { format!("{NAMES}\n{text}") } else { text };
            is_first = false;
            let flags = LoginFlags { transit, is_continued, current: Stage(current), next: Stage(next) };
            let response = target.send(LoginRequest { flags, ..request(SECURITY, None, &text) });
            if !response.status.is_success() || target.login.is_done() {
                break;
            }
        }
    }

    #[test]
    fn no_bytes_panic_the_text_parser(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(pairs) = text::parse(&bytes) {
            for (_, value) in pairs {
                let _ = (text::parse_number(value), text::decode_binary(value, 64));
            }
        }
        let mut parameters = Parameters::default();
        let _ = handle_full_feature_text(
            Role::Target, SessionType::Normal, Preferences::default(), &mut parameters, &bytes,
        );
    }
}

fn arbitrary_text() -> impl Strategy<Value = String> {
    let keys: Vec<&'static str> = text::Key::TABLE.iter().map(|spec| spec.name).chain(["X-a"]).collect();
    let values = prop_oneof![
        "[ -~]{0,12}",
        prop::sample::select(vec![
            "Yes",
            "No",
            "None",
            "CHAP",
            "CRC32C,None",
            "5,7",
            "0x10",
            "8192",
            "Reject",
            "Irrelevant"
        ])
        .prop_map(str::to_owned),
        any::<u32>().prop_map(|number| number.to_string()),
    ];
    let pair = (prop::sample::select(keys), values).prop_map(|(key, value)| format!("{key}={value}"));
    prop::collection::vec(pair, 0..6).prop_map(|pairs| pairs.join("\n"))
}

#[test]
fn send_targets_is_for_full_feature_phase() {
    let mut parameters = Parameters::default();
    let text = block("SendTargets=All\nMaxRecvDataSegmentLength=4096\nMaxBurstLength=512\nX-a=b");
    let preferences = Preferences::default();
    let reply =
        handle_full_feature_text(Role::Target, SessionType::Discovery, preferences, &mut parameters, &text).unwrap();
    assert_eq!(reply.send_targets.as_deref(), Some("All"));
    assert_eq!(reply.reply, block("MaxBurstLength=Reject\nX-a=NotUnderstood"));
    assert_eq!(parameters.connection.max_send_data_segment_length, 4096);
}
