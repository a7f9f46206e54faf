//! What is given for a cluster, through which managers share their keys with other machines.

use crate::classes::class;
use crate::setting::{invalid, seconds, wrong_type};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use std::path::PathBuf;
use std::time::Duration;

/// What was given for a cluster.
#[derive(Default)]
#[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "there is no client that would read it"))]
pub(crate) struct Given {
    pub(crate) endpoints: String,
    pub(crate) options: Options,
}

#[derive(Default)]
#[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "there is no client that would read it"))]
pub(crate) struct Options {
    pub(crate) namespace: String,
    pub(crate) ttl: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) certificate_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) server_name: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) label: String,
}

impl Given {
    /// From `etcd` and `etcd_options`; `None` if neither is given.
    pub(crate) fn of(
        etcd: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyAny>>,
        has_other: bool,
    ) -> PyResult<Option<Self>> {
        let Some(etcd) = etcd else {
            return match options {
                None => Ok(None),
                Some(options) => {
                    Err(invalid(options.py(), "etcd_options", "it is given without etcd; give both".into()))
                }
            };
        };
        if has_other {
            let problem = "shared_memory is given, too; a manager shares its keys in one way";
            return Err(invalid(etcd.py(), "etcd", problem.into()));
        }
        let options = options.map_or(Ok(Options::default()), Options::of)?;
        Ok(Some(Self { endpoints: endpoints(etcd)?, options }))
    }
}

fn endpoints(etcd: &Bound<'_, PyAny>) -> PyResult<String> {
    let wrong = || wrong_type("etcd", "a str with addresses, a list of them, or None", etcd);
    if let Ok(text) = etcd.cast::<PyString>() {
        return utf8("etcd", text);
    }
    let parts = match (etcd.cast::<PyList>(), etcd.cast::<PyTuple>()) {
        (Ok(list), _) => list.iter().collect::<Vec<_>>(),
        (_, Ok(tuple)) => tuple.iter().collect(),
        _ => return Err(wrong()),
    };
    let parts = parts.iter().map(|part| utf8("etcd", part.cast::<PyString>().map_err(|_| wrong())?));
    Ok(parts.collect::<PyResult<Vec<_>>>()?.join(","))
}

/// The text of a setting; surrogates are none.
fn utf8(setting: &'static str, text: &Bound<'_, PyString>) -> PyResult<String> {
    text.to_str().map(Into::into).map_err(|_| invalid(text.py(), setting, "it is not UTF-8".into()))
}

impl Options {
    /// From a `keylatch.EtcdOptions`.
    fn of(options: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = options.py();
        if !options.is_instance(&class(py, "EtcdOptions")?)? {
            return Err(wrong_type("etcd_options", "an EtcdOptions or None", options));
        }
        let given = |name| options.getattr(name).map(|value| (!value.is_none()).then_some(value));
        let text = |name: &'static str| match given(name)? {
            None => Ok(String::new()),
            Some(value) => utf8(name, value.cast().map_err(|_| wrong_type(name, "a str", &value))?),
        };
        let path = |name: &'static str| {
            let path =
                |value: Bound<'_, PyAny>| value.extract().map_err(|_| wrong_type(name, "a path or None", &value));
            given(name)?.map(path).transpose()
        };
        let time = |name: &'static str| {
            let value = options.getattr(name)?;
            let time = seconds(name, &value)?;
            // To the client it is the default.
            let problem = || invalid(py, name, "it has to be above 0".into());
            if time.is_zero() { Err(problem()) } else { Ok(time) }
        };
        Ok(Self {
            namespace: text("namespace")?,
            ttl: time("ttl")?,
            connect_timeout: time("connect_timeout")?,
            ca_file: path("ca_file")?,
            certificate_file: path("certificate_file")?,
            key_file: path("key_file")?,
            server_name: text("server_name")?,
            user: text("user")?,
            password: text("password")?,
            label: text("label")?,
        })
    }
}
