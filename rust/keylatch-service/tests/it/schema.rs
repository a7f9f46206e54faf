//! The committed OpenAPI document, and whether answers are what it says.

use serde_json::{Map, Value};

pub(crate) struct Document(pub(crate) Value);

impl Document {
    pub(crate) fn committed() -> Self {
        Self(serde_json::from_str(include_str!("../../openapi.json")).unwrap())
    }

    /// Returns the operation of a call, where the document has one.
    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let path = path.split('?').next().unwrap_or_default();
        let paths = self.0["paths"].as_object().unwrap();
        let fits = |pattern: &str| {
            let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
            pattern.len() == path.len()
                && pattern.iter().zip(&path).all(|(part, given)| part.starts_with('{') || part == given)
        };
        let (_, operations) = paths.iter().find(|(pattern, _)| fits(pattern))?;
        operations.get(method.to_lowercase())
    }

    /// Panics where an answer is none that the document describes.
    pub(crate) fn check_answer(&self, method: &str, path: &str, (status, kind): (u16, &str), body: &Value) {
        let Some(operation) = self.operation(method, path) else {
            assert!(matches!(status, 404 | 405), "{method} {path} is not in the document and answers {status}");
            return;
        };
        let answer = &operation["responses"][status.to_string()];
        assert!(answer.is_object(), "{method} {path}: {status} is not in the document: {body}");
        let Some(content) = answer["content"].as_object() else {
            assert_eq!(kind, "", "{method} {path}: a body that the document does not have");
            return;
        };
        let described = content.get(kind).unwrap_or_else(|| panic!("{method} {path}: {status} has {kind}"));
        self.check(&described["schema"], body, path);
    }

    /// Panics where a value is not what a named schema says.
    pub(crate) fn check_named(&self, name: &str, value: &Value) {
        self.check(&self.0["components"]["schemas"][name], value, name);
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap();
            return self.check(&self.0["components"]["schemas"][name], value, at);
        }
        match schema["type"].as_str().expect("a type") {
            "string" => assert!(value.is_string(), "{at}: {value}"),
            "boolean" => assert!(value.is_boolean(), "{at}: {value}"),
            "integer" => {
                let number = value.as_i64().unwrap_or_else(|| panic!("{at}: {value}"));
                assert!(schema["minimum"].as_i64().is_none_or(|least| number >= least), "{at}: {value}");
            }
            "array" => {
                for element in value.as_array().unwrap_or_else(|| panic!("{at}: {value}")) {
                    self.check(&schema["items"], element, at);
                }
            }
            "object" => self.check_object(schema, value.as_object().unwrap_or_else(|| panic!("{at}: {value}")), at),
            other => panic!("{at}: the document has the type {other}"),
        }
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{at}: {value}");
        }
    }

    fn check_object(&self, schema: &Value, object: &Map<String, Value>, at: &str) {
        for field in schema["required"].as_array().into_iter().flatten() {
            assert!(object.contains_key(field.as_str().unwrap()), "{at}: {field} is missing in {object:?}");
        }
        for (field, value) in object {
            match schema["properties"].get(field) {
                Some(schema) => self.check(schema, value, &format!("{at}.{field}")),
                None => assert_ne!(schema["additionalProperties"], false, "{at}: {field} is not in the document"),
            }
        }
    }
}
