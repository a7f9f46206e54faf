//! One measured figure with everything that is said about it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What one subject did in one scenario.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) subject: String,
    pub(crate) scenario: String,
    /// Nanoseconds an operation: the best slice.
    pub(crate) ns: f64,
    /// `ns` as a multiple of the unit measured with it, slice by slice in turn.
    pub(crate) ratio: f64,
    /// Operations in all slices together.
    pub(crate) ops: u64,
    /// Allocations an operation.
    pub(crate) allocs: f64,
    /// Further figures, by name.
    pub(crate) more: BTreeMap<String, f64>,
    /// What a reader has to know about this row.
    pub(crate) note: String,
}

impl Row {
    pub(crate) fn new(subject: &str, scenario: &str) -> Self {
        Self {
            subject: subject.into(),
            scenario: scenario.into(),
            ns: 0.0,
            ratio: 0.0,
            ops: 0,
            allocs: 0.0,
            more: BTreeMap::new(),
            note: String::new(),
        }
    }

    pub(crate) fn with(mut self, name: &str, figure: f64) -> Self {
        self.more.insert(name.into(), figure);
        self
    }

    pub(crate) fn remark(&mut self, note: &str) {
        if !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(note);
    }

    /// Returns a figure by name: `ns`, `ratio`, `allocs`, or one of [`Row::more`].
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        match name {
            "ns" => Some(self.ns),
            "ratio" => Some(self.ratio),
            "allocs" => Some(self.allocs),
            other => self.more.get(other).copied(),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("subject".into(), self.subject.clone().into());
        fields.insert("scenario".into(), self.scenario.clone().into());
        fields.insert("ns".into(), self.ns.into());
        fields.insert("ratio".into(), self.ratio.into());
        fields.insert("ops".into(), self.ops.into());
        fields.insert("allocs".into(), self.allocs.into());
        for (name, figure) in &self.more {
            fields.insert(name.clone(), (*figure).into());
        }
        if !self.note.is_empty() {
            fields.insert("note".into(), self.note.clone().into());
        }
        Value::Object(fields)
    }

    /// Reads a child's [`Row::to_json`]; `None` if it is something else.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        let mut row = Self::new(fields.get("subject")?.as_str()?, fields.get("scenario")?.as_str()?);
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("subject" | "scenario", _) => {}
                ("ns", value) => row.ns = value.as_f64()?,
                ("ratio", value) => row.ratio = value.as_f64()?,
                ("ops", value) => row.ops = value.as_u64()?,
                ("allocs", value) => row.allocs = value.as_f64()?,
                ("note", value) => row.note = value.as_str()?.into(),
                (_, value) => {
                    row.more.insert(name.clone(), value.as_f64()?);
                }
            }
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_survives_the_way_through_json() {
        let mut row = Row::new("keylatch", "same_key_shared").with("unit_ns", 11.7);
        row.ns = 20.5;
        row.ratio = 1.75;
        row.ops = 1_000_000;
        row.remark("two cores");
        row.remark("busy");
        let text = row.to_json().to_string();
        let back = Row::from_json(&serde_json::from_str(&text).expect("it is JSON"));
        assert_eq!(back, Some(row));
    }
}
