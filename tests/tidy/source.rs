//! A Rust file as the rules need it: its tokens, what is test code, the paths it names, its functions and
//! its `mod` declarations.
//!
//! Names are resolved by their spelling: `crate::`, `self::` and `super::` from the module that the file's
//! path implies, and the name of another crate as it is written. Renamed imports, macros that build paths
//! and globs are not followed.

use crate::lexer::{self, Kind, Token};

/// The crates of this repository: the folder of their sources, and the name by which code calls them.
pub(crate) const CRATES: [(&str, &str); 3] =
    [("src", "corelane"), ("shards/src", "corelane_shards"), ("perf/src", "corelane_perf")];

/// One parsed file.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    /// All tokens, comments among them.
    pub(crate) tokens: Vec<Token<'a>>,
    /// The tokens without comments.
    pub(crate) code: Vec<Token<'a>>,
    /// For each token of `code`, whether it lies under `#[test]` or `#[cfg(test)]`.
    pub(crate) test: Vec<bool>,
}

/// A path that the code names, such as `["corelane", "api", "fetch"]`; `crate::` is replaced by the crate's
/// name.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) test: bool,
}

impl Named {
    pub(crate) fn starts_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len()
            && self.segments.iter().zip(prefix).all(|(ours, theirs)| ours == theirs)
    }
}

/// A function with a body.
#[derive(Debug)]
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) line: usize,
    /// Lines strictly between the braces of its body, at least one.
    pub(crate) lines: usize,
    pub(crate) test: bool,
}

/// `mod name;`: the modules around it in the file, its name, and the file that a `path` attribute gives it.
#[derive(Debug)]
pub(crate) struct Declared<'a> {
    pub(crate) within: Vec<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) file: Option<&'a str>,
    pub(crate) test: bool,
}

impl<'a> Source<'a> {
    pub(crate) fn parse(path: &'a str, text: &'a str) -> Self {
        let tokens = lexer::tokens(text);
        let code: Vec<Token<'a>> =
            tokens.iter().copied().filter(|token| token.kind != Kind::Comment).collect();
        let mut test = vec![false; code.len()];
        for at in 0..code.len() {
            if let Some(end) = attribute_end(&code, at).filter(|end| is_test_attribute(&code[at..*end])) {
                let whole_file = code[at + 1].is_mark('!');
                let end = if whole_file { code.len() } else { item_end(&code, end) };
                test[at..end].fill(true);
            }
        }
        Self { path, tokens, code, test }
    }

    /// The crate whose sources hold this file, if it is one of ours.
    pub(crate) fn crate_name(&self) -> Option<&'static str> {
        CRATES.iter().find(|(folder, _)| is_in(self.path, folder)).map(|(_, name)| *name)
    }

    /// The modules that lead to this file from its crate's root: `src/api/mod.rs` and `src/api.rs` are both
    /// `["api"]`.
    pub(crate) fn module(&self) -> Vec<&'a str> {
        let folder =
            CRATES.iter().find(|(folder, _)| is_in(self.path, folder)).map_or("", |(folder, _)| *folder);
        let inner = self.path.strip_prefix(folder).unwrap_or(self.path).trim_start_matches('/');
        let mut module: Vec<&str> = inner.trim_end_matches(".rs").split('/').collect();
        if matches!(module.last(), Some(&("mod" | "lib" | "main"))) {
            module.pop();
        }
        module
    }

    /// Every path named in `use` declarations, and every path of two segments or more elsewhere.
    pub(crate) fn named(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut scope = Scope::default();
        let mut at = 0;
        while at < self.code.len() {
            scope.enter(&self.code, at);
            let (paths, next) = self.paths_at(at);
            for segments in paths {
                let segments = self.resolve(&segments, &scope.modules());
                found.push(Named { segments, line: self.code[at].line, test: self.test[at] });
            }
            at = next;
        }
        found
    }

    /// The paths that begin at token `at`, and where to go on.
    fn paths_at(&self, at: usize) -> (Vec<Vec<&'a str>>, usize) {
        let code = &self.code;
        let mut paths = Vec::new();
        if code[at].is_word("use") && !code.get(at + 1).is_some_and(|next| next.is_mark('<')) {
            let end = use_tree(code, at + 1, &[], &mut paths);
            return (paths, end.max(at + 1));
        }
        if code[at].is_word("extern") && code.get(at + 1).is_some_and(|next| next.is_word("crate")) {
            paths.extend(code.get(at + 2).map(|name| vec![name.text]));
            return (paths, at + 3);
        }
        if code[at].kind != Kind::Word {
            return (paths, at + 1);
        }
        let (segments, end) = plain_path(code, at);
        if segments.len() > 1 {
            paths.push(segments);
        }
        (paths, end)
    }

    /// Replaces `crate`, `self` and `super` at the head of a path.
    fn resolve(&self, segments: &[&str], within: &[&str]) -> Vec<String> {
        let Some(name) = self.crate_name() else {
            return segments.iter().map(|segment| (*segment).to_owned()).collect();
        };
        let mut base: Vec<&str> = match segments[0] {
            "crate" => Vec::new(),
            "self" | "super" => [self.module(), within.to_vec()].concat(),
            _ => return segments.iter().map(|segment| (*segment).to_owned()).collect(),
        };
        let mut rest = segments;
        while let [head @ ("crate" | "self" | "super"), tail @ ..] = rest {
            if *head == "super" {
                base.pop();
            }
            rest = tail;
        }
        [name].iter().chain(&base).chain(rest).map(|segment| (*segment).to_owned()).collect()
    }

    /// Every function with a body, nested ones too.
    pub(crate) fn functions(&self) -> Vec<Function<'a>> {
        let code = &self.code;
        let mut found = Vec::new();
        for at in 0..code.len().saturating_sub(1) {
            if !code[at].is_word("fn") || code[at + 1].kind != Kind::Word {
                continue;
            }
            let Some(open) = body_open(code, at) else { continue };
            let close = group_end(code, open) - 1;
            let lines = (code[close].line - code[open].line).saturating_sub(1).max(1);
            found.push(Function { name: code[at + 1].text, line: code[at].line, lines, test: self.test[at] });
        }
        found
    }

    /// Every `mod name;`.
    pub(crate) fn declared(&self) -> Vec<Declared<'a>> {
        let code = &self.code;
        let mut found = Vec::new();
        let mut scope = Scope::default();
        for at in 0..code.len() {
            scope.enter(code, at);
            let [keyword, name, end] = code[at..].first_chunk().copied().unwrap_or([code[at]; 3]);
            if keyword.is_word("mod") && name.kind == Kind::Word && end.is_mark(';') {
                let (within, file) = (scope.modules(), path_attribute(code, at));
                found.push(Declared { within, name: name.text, file, test: self.test[at] });
            }
        }
        found
    }
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The inline modules open at the token last entered.
#[derive(Default)]
struct Scope<'a> {
    depth: usize,
    open: Vec<(usize, &'a str)>,
}

impl<'a> Scope<'a> {
    fn enter(&mut self, code: &[Token<'a>], at: usize) {
        if code[at].is_mark('{') {
            self.depth += 1;
            if at >= 2 && code[at - 2].is_word("mod") {
                self.open.push((self.depth, code[at - 1].text));
            }
        } else if code[at].is_mark('}') {
            self.open.retain(|(depth, _)| *depth < self.depth);
            self.depth = self.depth.saturating_sub(1);
        }
    }

    fn modules(&self) -> Vec<&'a str> {
        self.open.iter().map(|(_, name)| *name).collect()
    }
}

/// Whether `::` stands at `at`.
fn is_separator(code: &[Token<'_>], at: usize) -> bool {
    let both = code.get(at).zip(code.get(at + 1));
    both.is_some_and(|(one, two)| one.is_mark(':') && two.is_mark(':') && two.at == one.at + 1)
}

/// The segments of the path that begins at `at`, and the token after it.
fn plain_path<'a>(code: &[Token<'a>], at: usize) -> (Vec<&'a str>, usize) {
    let mut segments = vec![code[at].text];
    let mut end = at + 1;
    while is_separator(code, end) && code.get(end + 2).is_some_and(|next| next.kind == Kind::Word) {
        segments.push(code[end + 2].text);
        end += 3;
    }
    (segments, end)
}

/// Flattens a tree of imports that begins at `at` into `paths`; answers the token after it.
fn use_tree<'a>(
    code: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    paths: &mut Vec<Vec<&'a str>>,
) -> usize {
    if is_separator(code, at) {
        at += 2;
    }
    let mut path = prefix.to_vec();
    if code.get(at).is_some_and(|token| token.kind == Kind::Word) {
        let (segments, end) = plain_path(code, at);
        path.extend(segments);
        at = end;
    }
    if is_separator(code, at) {
        at += 2;
    }
    if code.get(at).is_some_and(|token| token.is_mark('{')) {
        return use_group(code, at, &path, paths);
    }
    if path.len() > 1 && path.last() == Some(&"self") {
        path.pop();
    }
    if !path.is_empty() {
        paths.push(path);
    }
    while code.get(at).is_some_and(|token| !matches!(token.text, "," | "}" | ";")) {
        at += 1;
    }
    at
}

fn use_group<'a>(code: &[Token<'a>], open: usize, path: &[&'a str], paths: &mut Vec<Vec<&'a str>>) -> usize {
    let end = group_end(code, open);
    let mut at = open + 1;
    while at + 1 < end {
        at = use_tree(code, at, path, paths) + 1;
    }
    end
}

/// The token after the group of brackets that opens at `open`.
pub(crate) fn group_end(code: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in code.iter().enumerate().skip(open) {
        match token.text {
            "{" | "(" | "[" if token.kind == Kind::Mark => depth += 1,
            "}" | ")" | "]" if token.kind == Kind::Mark => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// The token after the attribute that begins at `at`, if one does.
pub(crate) fn attribute_end(code: &[Token<'_>], at: usize) -> Option<usize> {
    let bang = usize::from(code.get(at + 1).is_some_and(|next| next.is_mark('!')));
    let opens = code.get(at + 1 + bang).is_some_and(|next| next.is_mark('['));
    (code[at].is_mark('#') && opens).then(|| group_end(code, at + 1 + bang))
}

/// `#[test]`, or a `cfg` that holds in tests alone.
fn is_test_attribute(attribute: &[Token<'_>]) -> bool {
    let words: Vec<&str> =
        attribute.iter().filter(|token| token.kind == Kind::Word).map(|token| token.text).collect();
    match words[..] {
        ["test"] => true,
        ["cfg", ref rest @ ..] => rest.contains(&"test") && !rest.contains(&"not") && !rest.contains(&"any"),
        _ => false,
    }
}

/// The token after the item that begins at `at`, its further attributes included.
pub(crate) fn item_end(code: &[Token<'_>], mut at: usize) -> usize {
    while at < code.len() {
        match code[at].text {
            "{" => return group_end(code, at),
            ";" => return at + 1,
            "}" | ")" => return at,
            "(" | "[" => at = group_end(code, at),
            _ => at += 1,
        }
    }
    at
}

/// The brace that opens the body of the function at `at`; none for a declaration without one.
fn body_open(code: &[Token<'_>], mut at: usize) -> Option<usize> {
    while at < code.len() {
        match code[at].text {
            "{" => return Some(at),
            ";" | "}" => return None,
            "(" | "[" => at = group_end(code, at),
            _ => at += 1,
        }
    }
    None
}

/// The file that `#[path = "..."]` before the `mod` at `at` names.
fn path_attribute<'a>(code: &[Token<'a>], at: usize) -> Option<&'a str> {
    let begin =
        code[..at].iter().rposition(|token| matches!(token.text, ";" | "}" | "{")).map_or(0, |end| end + 1);
    let before = &code[begin..at];
    let path = before.windows(3).find(|window| window[0].is_word("path") && window[1].is_mark('='))?;
    Some(path[2].text.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, text: &str) -> Vec<String> {
        Source::parse(path, text).named().iter().map(|named| named.segments.join("::")).collect()
    }

    #[test]
    fn imports_are_flattened_and_resolved() {
        let text =
            "use std::{fs, io::{self, Read as _}, net::*}; pub use super::api::{a, b}; use crate::wire;";
        let expected = ["std::fs", "std::io", "std::io::Read", "std::net"];
        let ours = ["corelane::cluster::api::a", "corelane::cluster::api::b", "corelane::wire"];
        assert_eq!(named("src/cluster/image.rs", text), [&expected[..], &ours[..]].concat());
    }

    #[test]
    fn paths_in_expressions_and_inline_modules_are_seen() {
        let text = "fn f(x: ::std::fs::File) { crate::sim::run() }\n\
                    mod tests { use super::*; mod deep { fn g() { super::h::i() } } }";
        let expected = [
            "std::fs::File",
            "corelane_shards::sim::run",
            "corelane_shards::core::log",
            "corelane_shards::core::log::tests::h::i",
        ];
        assert_eq!(named("shards/src/core/log.rs", text), expected);
    }

    #[test]
    fn test_code_is_told_from_the_rest() {
        let text = "fn a() {} #[test] #[should_panic] fn b() {} #[cfg(not(test))] fn c() {}\n\
                    #[cfg(test)] mod t { fn d() {} } fn e() {}";
        let source = Source::parse("src/x.rs", text);
        let test: Vec<(&str, bool)> =
            source.functions().iter().map(|found| (found.name, found.test)).collect();
        assert_eq!(test, [("a", false), ("b", true), ("c", false), ("d", true), ("e", false)]);
    }

    #[test]
    fn bodies_are_measured_between_their_braces() {
        let text = "trait T { fn none(&self) -> [u8; 4]; }\nfn one() { 1 }\n\
                    fn three(\n  x: u8,\n) {\n  1\n  2\n  3\n}\n";
        let source = Source::parse("src/x.rs", text);
        let lines: Vec<(&str, usize)> =
            source.functions().iter().map(|found| (found.name, found.lines)).collect();
        assert_eq!(lines, [("one", 1), ("three", 3)]);
    }

    #[test]
    fn declarations_know_their_surroundings() {
        let text = "mod a; mod b { #[path = \"z.rs\"] pub mod c; } #[cfg(test)] mod d;";
        let source = Source::parse("src/lib.rs", text);
        let found: Vec<_> =
            source.declared().iter().map(|d| (d.within.join("/"), d.name, d.file, d.test)).collect();
        let none = String::new;
        let expected = [
            (none(), "a", None, false),
            ("b".to_owned(), "c", Some("z.rs"), false),
            (none(), "d", None, true),
        ];
        assert_eq!(found, expected);
    }
}
