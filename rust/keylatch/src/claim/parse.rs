//! Reads the numbers of claims from text.

use super::error::ClaimError;
use super::id::{ClaimEventId, ClaimGrant, ClaimSessionId};
use std::str::FromStr;

macro_rules! from_pair {
    ($type:ident, $second:ident) => {
        impl FromStr for $type {
            type Err = ClaimError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let malformed = || ClaimError::MalformedId { text: text.chars().take(64).collect() };
                let digits = |part: &str| {
                    // `parse` would accept a sign.
                    let plain = part.bytes().all(|byte| byte.is_ascii_digit());
                    plain.then(|| part.parse::<u64>().ok()).flatten().ok_or_else(malformed)
                };
                let (epoch, second) = text.split_once('-').ok_or_else(malformed)?;
                Ok(Self { epoch: digits(epoch)?, $second: digits(second)? })
            }
        }
    };
}

from_pair!(ClaimSessionId, number);
from_pair!(ClaimGrant, fence);
from_pair!(ClaimEventId, sequence);
