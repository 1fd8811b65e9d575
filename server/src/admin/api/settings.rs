//! What a change sets, leaves or unsets.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::ZeroizeOnDrop;

/// A property in a change: missing leaves it, `null` unsets it, a value sets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Leave it.
    #[default]
    Keep,
    /// Unset it.
    Clear,
    /// Set it.
    Set(T),
}

impl<T> Field<T> {
    /// Whether the property is left.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The same with another kind of value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Keep => Field::Keep,
            Self::Clear => Field::Clear,
            Self::Set(value) => Field::Set(f(value)),
        }
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(value) => serializer.serialize_some(value),
            Self::Keep | Self::Clear => serializer.serialize_none(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A secret on its way from an administrator to the configuration: plain on the wire, which is a socket only its
/// owner can open, wiped afterwards, and never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// What to set on a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TargetSettings {
    /// Its name, `iqn.` or `eui.`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its alias, up to 255 bytes.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub alias: Field<String>,
    /// `none`, `chap` or `radius`; unset follows the default.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub auth: Field<String>,
    /// The name the target proves itself under with mutual CHAP; its own name if unset.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub chap_user: Field<String>,
    /// What the target proves itself with, 12 to 255 bytes.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub chap_secret: Field<SecretText>,
    /// All its portal groups; unset means the default one.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub portal_groups: Field<Vec<String>>,
    /// Where initiators that log in are sent instead.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub redirect: Field<RedirectSettings>,
}

/// Where the initiators of a target are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedirectSettings {
    /// Portals, `ADDRESS[:PORT]`, port 3260 unless given.
    pub portals: Vec<String>,
    /// Whether the target has moved for good: the initiator may forget that it was here.
    #[serde(default)]
    pub permanent: bool,
}

/// What to set on an initiator's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InitiatorSettings {
    /// The name it must give with CHAP; its own name if unset.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub chap_user: Field<String>,
    /// The secret it must know, 12 to 255 bytes.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub chap_secret: Field<SecretText>,
}

/// What to set of the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DefaultsSettings {
    /// Alias of targets without one.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub alias: Field<String>,
    /// `none`, `chap` or `radius`.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub auth: Field<String>,
    /// RADIUS servers, `ADDRESS[:PORT]`, port 1812 unless given.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub radius_servers: Field<Vec<String>>,
    /// The secret shared with them, 12 to 255 bytes.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub radius_secret: Field<SecretText>,
    /// Whether targets are registered with iSNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isns: Option<bool>,
    /// iSNS servers, `ADDRESS[:PORT]`, port 3205 unless given, at most 8.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub isns_servers: Field<Vec<String>>,
    /// Whether discovery demands CHAP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_chap: Option<bool>,
    /// The weakest CHAP algorithm that logins may use: `md5`, `sha1`, `sha256` or `sha3-256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chap_minimum: Option<String>,
    /// `all`, or `named` to let only initiators in that have an entry or are in a host group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}
