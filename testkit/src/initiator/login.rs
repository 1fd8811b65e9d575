//! The login of a scripted initiator.

use iscsi_proto::auth::chap::Algorithm;
use iscsi_proto::digest::Digests;
use iscsi_proto::pdu::{Cid, LoginFlags, LoginRequest, LoginResponse, LoginStatus, Stage, TargetPdu};
use iscsi_proto::sn::StatSn;
use std::fmt::Write;

use super::{Initiator, InitiatorError, Result, Wire};

/// The status of a login that went well.
pub const SUCCESS: LoginStatus = LoginStatus::SUCCESS;

/// How to prove who one is.
#[derive(Clone, Debug)]
pub struct Chap {
    /// CHAP_N.
    pub user: String,
    /// The secret.
    pub secret: Vec<u8>,
    /// The algorithms to offer, by number: 5 MD5, 6 SHA-1, 7 SHA-256, 8 SHA3-256.
    pub algorithms: Vec<u8>,
    /// The secret that the target must prove to know, if it must.
    pub target_secret: Option<Vec<u8>>,
}

impl Chap {
    /// One way, MD5.
    pub fn one_way(user: &str, secret: &[u8]) -> Self {
        Self { user: user.into(), secret: secret.into(), algorithms: vec![5], target_secret: None }
    }
}

/// What to say in the login.
#[derive(Clone, Debug)]
pub struct LoginOptions {
    /// InitiatorName.
    pub initiator: String,
    /// TargetName; `None` makes a discovery session.
    pub target: Option<String>,
    /// The connection's number.
    pub cid: Cid,
    /// How to authenticate; `None` begins with the operational stage.
    pub chap: Option<Chap>,
    /// What to declare and propose, in order; the names above come first by themselves.
    pub keys: Vec<(String, String)>,
}

impl LoginOptions {
    /// A normal session, with digests off and the RFC's defaults but larger segments.
    pub fn normal(initiator: &str, target: &str) -> Self {
        Self { initiator: initiator.into(), target: Some(target.into()), cid: Cid(0), chap: None, keys: vec![] }
            .with("HeaderDigest", "None")
            .with("DataDigest", "None")
            .with("MaxRecvDataSegmentLength", "262144")
    }

    /// A discovery session.
    pub fn discovery(initiator: &str) -> Self {
        Self { initiator: initiator.into(), target: None, cid: Cid(0), chap: None, keys: vec![] }
    }

    /// The same, and says `key=value`; replaces what was said of the key.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.into(), value.into()));
        self
    }

    /// The same with both digests.
    #[must_use]
    pub fn with_digests(self) -> Self {
        self.with("HeaderDigest", "CRC32C").with("DataDigest", "CRC32C")
    }

    /// The same with CHAP.
    #[must_use]
    pub fn with_chap(mut self, chap: Chap) -> Self {
        self.chap = Some(chap);
        self
    }
}

/// The pairs of a text, in order.
pub(super) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    let lines = text.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    let pair = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let (key, value) = line.split_once('=').unwrap_or((&line, ""));
        (key.to_owned(), value.to_owned())
    };
    lines.map(pair).collect()
}

impl<W: Wire> Initiator<W> {
    /// Logs in. What the target said stands in [`Initiator::parameters`] then.
    ///
    /// # Errors
    /// [`InitiatorError::Login`] with the target's status when it refuses; else as [`Initiator::receive`].
    pub fn login(&mut self, options: &LoginOptions) -> Result<()> {
        self.parameters.clear();
        let mut text = String::new();
        say(&mut text, "InitiatorName", &options.initiator);
        match &options.target {
            Some(target) => {
                say(&mut text, "SessionType", "Normal");
                say(&mut text, "TargetName", target);
            }
            None => say(&mut text, "SessionType", "Discovery"),
        }
        if let Some(chap) = &options.chap {
            text = self.authenticate(options, chap, text)?;
        }
        for (key, value) in &options.keys {
            say(&mut text, key, value);
        }
        let (operational, full) = (Stage::OPERATIONAL_NEGOTIATION, Stage::FULL_FEATURE_PHASE);
        let mut response = self.login_step(options, operational, Some(full), &text)?;
        while !(response.flags.transit && response.flags.next == full) {
            response = self.login_step(options, operational, Some(full), "")?;
        }
        self.tsih = response.tsih;
        let is_on = |key| self.parameters.get(key).is_some_and(|value| value == "CRC32C");
        let digests = Digests { header: is_on("HeaderDigest"), data: is_on("DataDigest") };
        self.set_digests(digests);
        Ok(())
    }

    /// One exchange of the login: sends a text, gives the whole of the answer, with its pairs put into
    /// [`Initiator::parameters`].
    ///
    /// # Errors
    /// As [`Initiator::login`].
    pub fn login_step(
        &mut self,
        options: &LoginOptions,
        stage: Stage,
        next: Option<Stage>,
        text: &str,
    ) -> Result<LoginResponse> {
        let mut request = LoginRequest {
            flags: LoginFlags {
                transit: next.is_some(),
                is_continued: false,
                current: stage,
                next: next.unwrap_or_default(),
            },
            isid: self.isid,
            tsih: self.tsih,
            cid: options.cid,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            initiator_task_tag: iscsi_proto::pdu::InitiatorTaskTag(0),
            data: text.as_bytes().to_vec().into(),
            ..LoginRequest::default()
        };
        let mut answer = Vec::new();
        loop {
            self.send(request.clone())?;
            let response = match self.receive()? {
                TargetPdu::LoginResponse(response) => response,
                other => return Err(InitiatorError::Unexpected(Box::new(other))),
            };
            if !response.status.is_success() {
                return Err(InitiatorError::Login(response.status));
            }
            self.exp_stat_sn = response.stat_sn.next();
            answer.extend_from_slice(&response.data.to_contiguous());
            if !response.flags.is_continued {
                self.parameters.extend(pairs(&answer));
                return Ok(response);
            }
            request.data = Default::default();
            request.flags.transit = false;
            request.exp_stat_sn = self.exp_stat_sn;
        }
    }

    /// Goes through the security stage; what is left to say in the next.
    fn authenticate(&mut self, options: &LoginOptions, chap: &Chap, mut text: String) -> Result<String> {
        let (security, operational) = (Stage::SECURITY_NEGOTIATION, Stage::OPERATIONAL_NEGOTIATION);
        say(&mut text, "AuthMethod", "CHAP,None");
        self.login_step(options, security, None, &text)?;
        let algorithms: Vec<String> = chap.algorithms.iter().map(u8::to_string).collect();
        let mut text = String::new();
        say(&mut text, "CHAP_A", &algorithms.join(","));
        self.login_step(options, security, None, &text)?;

        let algorithm = Algorithm(self.number("CHAP_A", 0) as u8);
        let identifier = self.number("CHAP_I", 0) as u8;
        let challenge = self.binary("CHAP_C")?;
        let response = algorithm.respond(identifier, &chap.secret, &challenge);
        let response = response.ok_or_else(|| InitiatorError::Violation(format!("CHAP_A={}", algorithm.0)))?;
        let mut text = String::new();
        say(&mut text, "CHAP_N", &chap.user);
        say(&mut text, "CHAP_R", &hexadecimal(&response));
        let own_challenge: Vec<u8> = challenge.iter().rev().map(|byte| byte.wrapping_add(1)).collect();
        if chap.target_secret.is_some() {
            say(&mut text, "CHAP_I", "17");
            say(&mut text, "CHAP_C", &hexadecimal(&own_challenge));
        }
        self.parameters.remove("CHAP_R");
        self.login_step(options, security, Some(operational), &text)?;
        if let Some(secret) = &chap.target_secret {
            let expected = algorithm.respond(17, secret, &own_challenge);
            if expected.as_deref() != Some(&self.binary("CHAP_R")?[..]) {
                return Err(InitiatorError::Violation("the target does not know its secret".into()));
            }
        }
        Ok(String::new())
    }

    fn binary(&self, key: &str) -> Result<Vec<u8>> {
        let value = self.parameters.get(key).map_or("", String::as_str);
        let digits = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
        let bytes = digits.filter(|digits| digits.len() % 2 == 0).and_then(|digits| {
            let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
            (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()
        });
        bytes.ok_or_else(|| InitiatorError::Violation(format!("{key}={value} is not hexadecimal")))
    }

    /// Where the numbers begin when a test logs in by hand.
    pub fn begin_numbers(&mut self, response: &LoginResponse) {
        self.exp_stat_sn = StatSn(response.stat_sn.0.wrapping_add(1));
        self.tsih = response.tsih;
    }
}

fn say(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push('=');
    text.push_str(value);
    text.push('\0');
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::from("0x");
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
