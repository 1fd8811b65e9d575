//! What does a whole login cost the target, without and with CHAP?
#![allow(missing_docs, reason = "criterion's macro writes a public function")]

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use iscsi_proto::auth::chap::{Algorithm, Credentials, Secret};
use iscsi_proto::login::{AuthPolicy, ChapPolicy, ChapVerifier, LoginConfig, LoginEvent, LoginPolicy, TargetLogin};
use iscsi_proto::pdu::{LoginFlags, LoginRequest, Stage, Tsih};
use iscsi_proto::text::encode_hex;

const NAMES: &str = "InitiatorName=iqn.2026-11.org.example:host\0TargetName=iqn.2026-11.org.example:disk\0";
const OPERATIONAL: &str = "HeaderDigest=None,CRC32C\0DataDigest=None,CRC32C\0MaxRecvDataSegmentLength=262144\0\
    InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=16776192\0FirstBurstLength=262144\0MaxConnections=1\0\
    MaxOutstandingR2T=1\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0\
    ErrorRecoveryLevel=0\0IFMarker=No\0OFMarker=No\0";

fn request(current: Stage, next: Option<Stage>, text: String) -> LoginRequest {
    let flags = LoginFlags { transit: next.is_some(), is_continued: false, current, next: next.unwrap_or_default() };
    LoginRequest { flags, data: text.into_bytes().into(), ..LoginRequest::default() }
}

fn run(config: &Arc<LoginConfig>, policy: &LoginPolicy, requests: &[LoginRequest]) {
    let mut login = TargetLogin::new(config.clone());
    for request in requests {
        login.handle_request(request.clone());
        while let Some(event) = login.poll_event() {
            match event {
                LoginEvent::Identify(_) => login.accept(policy.clone()),
                LoginEvent::Negotiated(_) => login.complete(Tsih(1)),
                other => panic!("{other:?}"),
            }
        }
        assert!(login.poll_response().is_some());
    }
    assert!(login.is_done());
}

fn login(c: &mut Criterion) {
    let config = Arc::new(LoginConfig::default());
    let (security, operational) = (Stage::SECURITY_NEGOTIATION, Stage::OPERATIONAL_NEGOTIATION);
    let last = request(operational, Some(Stage::FULL_FEATURE_PHASE), OPERATIONAL.into());

    let open = [request(security, Some(operational), format!("{NAMES}AuthMethod=None\0")), last.clone()];
    c.bench_function("login/open", |b| b.iter(|| run(&config, &LoginPolicy::open(Some(1)), &open)));

    let (secret, challenge) = ("a secret of 20 bytes", [0xa5; 32]);
    for algorithm in Algorithm::SUPPORTED {
        let policy = ChapPolicy {
            identifier: 1,
            challenge: challenge.to_vec(),
            minimum: Algorithm::MD5,
            verifier: ChapVerifier::Credentials(Credentials { name: "host".into(), secret: Secret::new(secret) }),
            mutual: None,
        };
        let policy = LoginPolicy { auth: AuthPolicy::Chap(policy), ..LoginPolicy::open(Some(1)) };
        let proof = encode_hex(&algorithm.respond(1, secret.as_bytes(), &challenge).unwrap());
        let requests = [
            request(security, None, format!("{NAMES}AuthMethod=CHAP,None\0")),
            request(security, None, format!("CHAP_A={}\0", algorithm.0)),
            request(security, Some(operational), format!("CHAP_N=host\0CHAP_R={proof}\0")),
            last.clone(),
        ];
        c.bench_function(&format!("login/chap_{algorithm}"), |b| b.iter(|| run(&config, &policy, &requests)));
    }
}

criterion_group!(benches, login);
criterion_main!(benches);
