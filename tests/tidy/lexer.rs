//! A small lexer for Rust source: enough to tell code from comments and strings, and no more.
//!
//! Invariant: it accepts every file that rustc accepts and never panics; on a file that rustc refuses, its
//! tokens may be wrong but it still ends. It does not know keywords, operators of more than one character,
//! or macros: those are read one token at a time.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier or a keyword.
    Word,
    /// A string, character or number literal, delimiters included.
    Literal,
    /// `'a`.
    Lifetime,
    /// A line or block comment, documentation included.
    Comment,
    /// One character of punctuation.
    Mark,
}

/// A piece of the source, with where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// The byte of the file at which the token begins.
    pub(crate) at: usize,
    /// The line, from 1, on which the token begins.
    pub(crate) line: usize,
}

impl Token<'_> {
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    pub(crate) fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark && self.text.starts_with(mark)
    }
}

/// All tokens of `source` in order, comments among them.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut scanner = Scanner { source, at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(token) = scanner.next_token() {
        found.push(token);
    }
    found
}

struct Scanner<'a> {
    source: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Scanner<'a> {
    fn next_token(&mut self) -> Option<Token<'a>> {
        let blank = self.rest().len() - self.rest().trim_start().len();
        self.step(blank);
        let first = self.rest().chars().next()?;
        let (kind, length) = self.measure(first);
        let token = Token { kind, text: &self.rest()[..length], at: self.at, line: self.line };
        self.step(length);
        Some(token)
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn step(&mut self, length: usize) {
        self.line += self.rest()[..length].bytes().filter(|byte| *byte == b'\n').count();
        self.at += length;
    }

    /// The kind and the length in bytes of the token that begins with `first`.
    fn measure(&self, first: char) -> (Kind, usize) {
        let rest = self.rest();
        if rest.starts_with("//") {
            return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
        }
        if rest.starts_with("/*") {
            return (Kind::Comment, block_comment(rest));
        }
        if let Some(length) = prefixed_literal(rest) {
            return (Kind::Literal, length);
        }
        match first {
            '"' => (Kind::Literal, quoted(rest, '"')),
            '\'' => quote(rest),
            _ if first.is_ascii_digit() => (Kind::Literal, number(rest)),
            _ if is_word(first) => (Kind::Word, word(rest)),
            _ => (Kind::Mark, first.len_utf8()),
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn word(rest: &str) -> usize {
    let raw = if rest.starts_with("r#") { 2 } else { 0 };
    rest[raw..].find(|character| !is_word(character)).map_or(rest.len(), |end| end + raw)
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// `r"..."`, `r#"..."#`, `b"..."`, `b'x'`, `c"..."` and their raw forms.
fn prefixed_literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c"].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or_default().trim_start_matches('#');
        after.starts_with('"') || (*prefix == "b" && after.starts_with('\''))
    })?;
    let after = &rest[prefix.len()..];
    if !prefix.ends_with('r') {
        let delimiter = after.chars().next()?;
        return (delimiter != '#').then(|| prefix.len() + quoted(after, delimiter));
    }
    let hashes = after.len() - after.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let body = &after[hashes + 1..];
    let length = body.find(&end).map_or(body.len(), |found| found + end.len());
    Some(prefix.len() + hashes + 1 + length)
}

/// The length of a literal with escapes, delimiters included.
fn quoted(rest: &str, delimiter: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == delimiter => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A quote begins a lifetime when a word follows that no quote closes, else a character.
fn quote(rest: &str) -> (Kind, usize) {
    let mut following = rest[1..].chars();
    let (first, second) = (following.next(), following.next());
    if first.is_some_and(is_word) && second != Some('\'') {
        return (Kind::Lifetime, 1 + word(&rest[1..]));
    }
    (Kind::Literal, quoted(rest, '\''))
}

/// A point belongs to a number only when a digit follows: `1..2` and `1.max(2)` are not fractions.
fn number(rest: &str) -> usize {
    let whole = word(rest);
    let fraction =
        rest[whole..].strip_prefix('.').filter(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    fraction.map_or(whole, |after| whole + 1 + word(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        tokens(source).into_iter().filter(|token| token.kind == Kind::Word).map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let source = "a /* b /* c */ d */ e // f\n \"g \\\" h\" i r#\"j \" k\"# l b\"m\" n b'\\'' o\n\
                      c\"p\" q br##\"r\"# s\"## t";
        assert_eq!(words(source), ["a", "e", "i", "l", "n", "o", "q", "t"]);
    }

    #[test]
    fn a_quote_is_a_lifetime_or_a_character() {
        let kinds: Vec<Kind> =
            tokens("'a 'b' '\\'' '{' 'static '\u{e9}'").into_iter().map(|token| token.kind).collect();
        let (life, literal) = (Kind::Lifetime, Kind::Literal);
        assert_eq!(kinds, [life, literal, literal, literal, life, literal]);
    }

    #[test]
    fn numbers_leave_ranges_and_methods_alone() {
        let texts: Vec<&str> =
            tokens("0..10 1.5e3 1.max(2) 0xFF_u8").into_iter().map(|token| token.text).collect();
        assert_eq!(texts, ["0", ".", ".", "10", "1.5e3", "1", ".", "max", "(", "2", ")", "0xFF_u8"]);
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let found = tokens("\"x\ny\" /* \n\n */ r#type\nz");
        let lines: Vec<(usize, &str)> = found.iter().map(|token| (token.line, token.text)).collect();
        assert_eq!(lines, [(1, "\"x\ny\""), (2, "/* \n\n */"), (4, "r#type"), (5, "z")]);
    }

    #[test]
    fn broken_source_still_ends() {
        for source in ["\"open", "/* open", "r#\"open", "'", "b'", "r#", "1.", "\u{1F980}", "b##\"x\""] {
            let texts: String = tokens(source).iter().map(|token| token.text).collect();
            assert_eq!(texts.replace(' ', ""), source.replace(' ', ""));
        }
    }
}
