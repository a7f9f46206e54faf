//! Steps that ask who holds and who waits.

use super::fields::{Fields, Outcome, filter, key, mode};
use keylatch::{FastObjectLockManager, HolderInfo, ObjectKey, TopBy, WaiterInfo};
use serde_json::Value;
use std::collections::HashMap;

pub(crate) fn step(
    locks: &FastObjectLockManager,
    fences: &HashMap<String, u64>,
    verb: &str,
    fields: &mut Fields,
    expected: &Value,
) -> Outcome<()> {
    if verb == "blocking_chain" {
        return blocking_chain(locks, fields, expected);
    }
    if verb == "top" {
        return top(locks, fields, expected);
    }
    let filter = filter(fields.take("filter"))?;
    let found: Vec<Found> = match verb {
        "holders" => locks.holders(&filter).into_iter().map(Found::Holder).collect(),
        "waiters" => locks.waiters(&filter).into_iter().map(Found::Waiter).collect(),
        "expire" => locks.expire(&filter).into_iter().map(Found::Holder).collect(),
        _ => locks.force_release(&filter).into_iter().map(Found::Holder).collect(),
    };
    let wanted = expected.as_array().ok_or("no list is expected")?;
    let fits = wanted
        .iter()
        .map(|wanted| found.iter().map(|found| found.fits(wanted, fences)).collect::<Outcome<Vec<_>>>())
        .collect::<Outcome<Vec<_>>>()?;
    if wanted.len() == found.len() && assign(&fits, &found, &mut vec![false; found.len()]) {
        Ok(())
    } else {
        Err(format!("it came to {found:?}"))
    }
}

#[derive(Debug)]
enum Found {
    Holder(HolderInfo),
    Waiter(WaiterInfo),
}

impl Found {
    fn fits(&self, wanted: &Value, fences: &HashMap<String, u64>) -> Outcome<bool> {
        let mut fields = Fields::new(wanted)?;
        let (found_key, found_mode, owner, source, session, priority) = match self {
            Self::Holder(it) => (&it.key, it.mode, &it.owner, it.source, it.session, it.priority),
            Self::Waiter(it) => (&it.key, it.mode, &it.owner, it.source, it.session, it.priority),
        };
        let mut fits = true;
        if let Some(wanted) = fields.take("key") {
            fits &= key(&wanted)?.borrowed() == found_key.as_ref();
        }
        if let Some(name) = fields.text("mode")? {
            fits &= mode(&name)? == found_mode;
        }
        fits &= fields.text("owner")?.is_none_or(|wanted| *wanted == **owner);
        fits &= fields.text("source")?.is_none_or(|wanted| wanted == source);
        fits &= fields.take("session").is_none_or(|wanted| wanted == session);
        fits &= fields.number("priority")?.is_none_or(|wanted| wanted == u64::from(priority));
        match self {
            Self::Holder(it) => {
                fits &= fields.take("lease").is_none_or(|wanted| wanted == it.lease.is_some());
                if let Some(name) = fields.text("fence")? {
                    let fence = fences.get(&name).ok_or_else(|| format!("no fence is named {name}"))?;
                    fits &= it.fence == Some(*fence);
                }
            }
            Self::Waiter(it) => fits &= fields.take("upgrade").is_none_or(|wanted| wanted == it.upgrade),
        }
        fields.done()?;
        Ok(fits)
    }

    /// Whether it stands in line behind the other.
    fn is_behind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Waiter(this), Self::Waiter(other)) => this.key == other.key && this.position > other.position,
            _ => false,
        }
    }
}

/// Whether found ones can be all the wanted ones, with waiters of a key in order.
fn assign(fits: &[Vec<bool>], found: &[Found], used: &mut Vec<bool>) -> bool {
    let Some((first, others)) = fits.split_first() else { return true };
    for place in 0..found.len() {
        let is_next = !(0..found.len()).any(|other| !used[other] && found[place].is_behind(&found[other]));
        if used[place] || !first[place] || !is_next {
            continue;
        }
        used[place] = true;
        if assign(others, found, used) {
            return true;
        }
        used[place] = false;
    }
    false
}

fn blocking_chain(locks: &FastObjectLockManager, fields: &mut Fields, expected: &Value) -> Outcome<()> {
    let key = fields.key()?;
    let chain = locks.blocking_chain(key.borrowed());
    let names: Vec<_> =
        chain.links.iter().flat_map(|link| &link.holders).map(|holder| Value::from(&*holder.owner)).collect();
    if *expected == Value::from(names) { Ok(()) } else { Err(format!("it came to {chain}")) }
}

fn top(locks: &FastObjectLockManager, fields: &mut Fields, expected: &Value) -> Outcome<()> {
    let count = fields.number("n")?.ok_or("there is no n")?;
    let by = match fields.text("by")?.as_deref() {
        Some("age") => TopBy::Age,
        Some("waiters") => TopBy::Waiters,
        other => return Err(format!("{other:?} is no order")),
    };
    let found: Vec<ObjectKey> = locks.top(count as usize, by).into_iter().map(|top| top.key).collect();
    let wanted = expected.as_array().ok_or("no keys are expected")?.iter().map(key).collect::<Outcome<Vec<_>>>()?;
    if wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(wanted, found)| wanted.borrowed() == found.as_ref())
    {
        Ok(())
    } else {
        Err(format!("it came to {found:?}"))
    }
}
