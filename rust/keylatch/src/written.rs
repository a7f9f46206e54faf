//! How values are written for other programs, and read (feature `serde`).
//!
//! Times are seconds, as a number: 0.0005 are 500 µs, exact to the nanosecond up to three weeks, also through text that is
//! read to the neighbouring float. A part of a key is a string where it is UTF-8 and a list of bytes where it is not; formats
//! that are not for people always have bytes.
//!
//! Settings are for formats that describe themselves, as JSON and TOML do: what follows a name may be a number or a word.

use crate::grant::Grant;
use crate::key::{KeyRef, ObjectKey};
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Reads seconds.
fn duration<E: serde::de::Error>(seconds: f64) -> Result<Duration, E> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| E::invalid_value(Unexpected::Float(seconds), &"seconds, as a number from 0 up to 10^19"))
}

/// A time.
pub(crate) mod seconds {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        crate::written::duration(f64::deserialize(from)?)
    }
}

/// A time, or none.
pub(crate) mod seconds_or_none {
    use serde::{Serialize, Serializer};
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(to)
    }
}

/// A time, or the word "never", also where a format has a word for nothing.
pub(crate) mod seconds_or_never {
    use serde::de::{Unexpected, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;
    use std::time::Duration;

    const NEVER: &str = "never";

    pub(crate) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_f64(time.as_secs_f64()),
            None => to.serialize_str(NEVER),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        struct Wanted;

        impl Visitor<'_> for Wanted {
            type Value = Option<Duration>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds, as a number, or \"never\"")
            }

            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Self::Value, E> {
                crate::written::duration(seconds).map(Some)
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Self::Value, E> {
                Ok(Some(Duration::from_secs(seconds)))
            }

            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Self::Value, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
                if word == NEVER { Ok(None) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
        }

        from.deserialize_any(Wanted)
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.to_raw())
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Grant::from_raw(u64::deserialize(from)?).ok_or_else(|| D::Error::custom("0 is no grant"))
    }
}

/// A part of a key.
struct Part<'a>(Cow<'a, [u8]>);

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            _ if !to.is_human_readable() => to.serialize_bytes(&self.0),
            Ok(text) => to.serialize_str(text),
            Err(_) => to.collect_seq(self.0.iter()),
        }
    }
}

impl<'de> Deserialize<'de> for Part<'_> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Wanted;

        impl<'de> Visitor<'de> for Wanted {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part of a key: a string or bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
                Ok(text.into())
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }

        let bytes =
            if from.is_human_readable() { from.deserialize_any(Wanted) } else { from.deserialize_byte_buf(Wanted) };
        bytes.map(|bytes| Self(bytes.into()))
    }
}

/// A key, part by part.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename = "key", deny_unknown_fields)]
struct Parts<'a> {
    bucket: Part<'a>,
    object: Part<'a>,
    /// None for the latest.
    #[serde(default)]
    version: Option<Part<'a>>,
}

impl Serialize for KeyRef<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let part = |bytes| Part(Cow::Borrowed(bytes));
        Parts { bucket: part(self.bucket()), object: part(self.object()), version: self.version().map(part) }
            .serialize(to)
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_ref().serialize(to)
    }
}

impl<'de> Deserialize<'de> for ObjectKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Parts { bucket, object, version } = Parts::deserialize(from)?;
        let key = KeyRef::new(&*bucket.0, &*object.0);
        Ok(version.as_ref().map_or(key, |version| key.with_version(&*version.0)).to_owned())
    }
}
