//! Writes `include/keylatch.h`, or says where it differs from what it should be.
//!
//! ```text
//! cargo run -p keylatch-header              # writes the header
//! cargo run -p keylatch-header -- --check   # fails if the header is not what it would write
//! ```
//!
//! cbindgen puts all constants first, then all types, then all functions. A header that people read has sections, so it
//! is run once for each module, and the module's first paragraphs become the section's heading.

#![allow(clippy::print_stdout)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The modules that face C, in the order of the header's sections.
const SECTIONS: &[&str] = &[
    "status",
    "library",
    "key",
    "etcd",
    "manager",
    "owner",
    "options",
    "queue",
    "acquire",
    "pins",
    "grants",
    "batch",
    "batch_later",
    "listed",
    "failure",
    "filter",
    "listing",
    "inspect",
    "revoke",
    "events",
    "figures",
    "shared",
    "claims",
    "claim_verbs",
    "claim_events",
];

fn main() -> ExitCode {
    let check = std::env::args().nth(1).as_deref() == Some("--check");
    match run(check) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("keylatch-header: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = root.join("include/keylatch.h");
    let wanted = header(&root.join("rust/keylatch-capi"))?;
    if !check {
        std::fs::write(&place, &wanted).map_err(|error| format!("{}: {error}", place.display()))?;
        return Ok("written: include/keylatch.h".into());
    }
    let found = read(&place)?;
    match found.lines().zip(wanted.lines()).position(|(found, wanted)| found != wanted) {
        None if found == wanted => Ok("include/keylatch.h is what the source says".into()),
        position => {
            let line = position.unwrap_or(found.lines().count().min(wanted.lines().count()));
            let of = |text: &str| text.lines().nth(line).unwrap_or("(nothing)").to_owned();
            Err(format!(
                "include/keylatch.h is not what the source says; run `make header` and commit it. Line {}:\n  has     {}\n  should  {}",
                line + 1,
                of(&found),
                of(&wanted)
            ))
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn header(package: &Path) -> Result<String, String> {
    let mut text = read(&package.join("header/preface.h"))?
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR"))
        .replace("@MINOR@", env!("CARGO_PKG_VERSION_MINOR"))
        .replace("@PATCH@", env!("CARGO_PKG_VERSION_PATCH"));
    for module in SECTIONS {
        let source = package.join("src").join(module).with_extension("rs");
        text.push_str(&heading(&read(&source)?).ok_or_else(|| format!("{module} has no heading"))?);
        text.push_str(&section(source)?);
    }
    text.push_str(&read(&package.join("header/appendix.h"))?);
    Ok(text)
}

/// Returns a module's own comment as a comment of C.
fn heading(source: &str) -> Option<String> {
    let mut lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim_end);
    let title = lines.next()?.trim();
    let mut text = format!("\n/* ==== {title} {}\n", "=".repeat(WIDTH - 9 - title.len()));
    for line in filled(lines, WIDTH - 3) {
        let _ = writeln!(text, "{}", format!(" * {line}").trim_end());
    }
    text.push_str(" */\n\n");
    Some(text)
}

fn section(source: PathBuf) -> Result<String, String> {
    // A type that no function of its own section takes would be left out.
    let text = read(&source)?;
    let named =
        |line: &str| line.trim_start().strip_prefix("pub struct ").or(line.strip_prefix("pub type ")).map(name_of);
    let include = text.lines().filter_map(named).collect();
    let config = cbindgen::Config {
        export: cbindgen::ExportConfig { include, ..cbindgen::ExportConfig::default() },
        language: cbindgen::Language::C,
        style: cbindgen::Style::Both,
        usize_is_size_t: true,
        no_includes: true,
        documentation_style: cbindgen::DocumentationStyle::C,
        function: cbindgen::FunctionConfig {
            must_use: Some("KEYLATCH_MUST_CHECK".into()),
            ..cbindgen::FunctionConfig::default()
        },
        line_length: 100,
        ..cbindgen::Config::default()
    };
    let name = source.display().to_string();
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(source)
        .generate()
        .map_err(|error| format!("{name}: {error}"))?;
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    let text = String::from_utf8(bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok(with_initialisers(&with_comments_in_c(&text.trim().lines().map(in_c).collect::<String>())))
}

fn name_of(declaration: &str) -> String {
    declaration.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns what cbindgen writes in ways that C programmers would not.
fn in_c(line: &str) -> String {
    let line = line.trim_end();
    // A number below zero in an expression of the caller's.
    if let Some((name, value)) = line.strip_prefix("#define ").and_then(|rest| rest.split_once(' '))
        && value.starts_with('-')
    {
        return format!("#define {name} ({value})\n");
    }
    format!("{line}\n")
}

/// Adds a macro after each struct that may grow.
///
/// The macro has the struct's size, and zeros for every other field.
fn with_initialisers(text: &str) -> String {
    let mut written = String::new();
    let mut fields: Option<Vec<&str>> = None;
    for line in text.lines() {
        let _ = writeln!(written, "{line}");
        if line.starts_with("typedef struct ") && line.ends_with('{') {
            fields = Some(Vec::new());
        } else if let Some(name) = line.strip_prefix("} ").and_then(|rest| rest.strip_suffix(';')) {
            let fields = fields.take().unwrap_or_default();
            if fields.first().is_some_and(|first| first.ends_with(" struct_size;")) {
                // Every field by itself: compilers warn of fields that are left out, and of braces that are.
                let zero = |field: &&str| match field.trim().starts_with("keylatch_key ") {
                    true => ", { 0, 0, 0, 0, 0, 0 }",
                    false => ", 0",
                };
                let zeros: String = fields[1..].iter().map(zero).collect();
                let macro_name = format!("{}_INIT", name.to_uppercase());
                let _ = write!(written, "\n/* For a {name}: its size, and zeros. */\n#define {macro_name} \\\n");
                let _ = writeln!(written, "    {{ sizeof({name}){zeros} }}");
            }
        } else if let Some(fields) = &mut fields
            && line.ends_with(';')
            && !line.trim_start().starts_with('*')
        {
            // Not a line of a comment, which may end so, too.
            fields.push(line);
        }
    }
    written
}

/// Columns of a comment.
const WIDTH: usize = 100;

/// cbindgen's comments, filled to a width and on one line where they fit.
fn with_comments_in_c(text: &str) -> String {
    let mut written = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "/*" {
            let _ = writeln!(written, "{line}");
            continue;
        }
        let indent = &line[..line.len() - 2];
        let inside =
            lines.by_ref().take_while(|line| line.trim() != "*/").map(|line| line.strip_prefix(indent).unwrap_or(line));
        comment(&mut written, indent, &filled(inside, WIDTH - indent.len() - 3));
    }
    written
}

fn comment(written: &mut String, indent: &str, lines: &[String]) {
    if let [only] = lines
        && only.len() + 3 + indent.len() <= WIDTH
    {
        let _ = writeln!(written, "{indent}/* {only} */");
        return;
    }
    let _ = writeln!(written, "{indent}/*");
    for line in lines {
        let _ = writeln!(written, "{}", format!("{indent} * {line}").trim_end());
    }
    let _ = writeln!(written, "{indent} */");
}

/// Paragraphs filled to a width; what is indented stays as it is.
fn filled<'a>(lines: impl Iterator<Item = &'a str>, width: usize) -> Vec<String> {
    let mut all: Vec<String> = vec![String::new()];
    let mut open = false;
    for line in lines {
        let line = line.strip_prefix(' ').unwrap_or(line).trim_end();
        if line.is_empty() || line.starts_with("    ") {
            all.push(line.to_owned());
            open = false;
            continue;
        }
        if !open {
            all.push(String::new());
            open = true;
        }
        for word in line.split_whitespace() {
            let last = all.last_mut().expect("a line was pushed");
            if last.is_empty() {
                last.push_str(word);
            } else if last.chars().count() + 1 + word.chars().count() <= width {
                last.push(' ');
                last.push_str(word);
            } else {
                all.push(word.to_owned());
            }
        }
    }
    all.remove(0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_filled_and_code_in_them_is_not() {
        let text = "  /*\n   One\n   two.\n\n       code();\n   */\nint a;\n/*\n Short.\n */\nint b;\n";
        let wanted = "  /*\n   * One two.\n   *\n   *     code();\n   */\nint a;\n/* Short. */\nint b;\n";
        assert_eq!(with_comments_in_c(text), wanted);
    }

    #[test]
    fn growing_struct_gets_initialiser() {
        let text = "typedef struct keylatch_a {\n  /* Its size. */\n  size_t struct_size;\n  /*\n   * Default 64;\n   */\n  char *b;\n  int c;\n} keylatch_a;\n";
        let wanted = "#define KEYLATCH_A_INIT \\\n    { sizeof(keylatch_a), 0, 0 }\n";
        assert!(with_initialisers(text).ends_with(wanted), "{}", with_initialisers(text));
        let fixed = "typedef struct keylatch_b {\n  int c;\n} keylatch_b;\n";
        assert_eq!(with_initialisers(fixed), fixed);
    }

    #[test]
    fn a_long_line_is_broken() {
        let words = "word ".repeat(50);
        assert!(filled(std::iter::once(words.as_str()), 40).iter().all(|line| line.len() <= 40));
    }

    #[test]
    fn numbers_below_zero_are_in_brackets() {
        assert_eq!(in_c("#define A -1"), "#define A (-1)\n");
        assert_eq!(in_c("#define B 1"), "#define B 1\n");
    }
}
