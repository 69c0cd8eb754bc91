//! One Rust file as tokens: the paths it names, its functions, its impls, and which of them are for tests.
//!
//! Tokens rather than text, so that comments and strings cannot trip a rule; tokens rather than a syntax tree,
//! so that the inside of a macro call is seen too. `use` groups are unfolded: `use std::{fs, io::Read}` gives
//! `std::fs` and `std::io::Read`.

use std::collections::BTreeSet;
use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::{Finding, Tree};

/// A path as written, unfolded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// Whether it stands under `#[cfg(test)]` or `#[test]`.
    pub(crate) in_test: bool,
    /// Whether it is called as a macro.
    pub(crate) is_macro: bool,
}

/// A function with a body.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: std::ops::RangeInclusive<usize>,
    pub(crate) in_test: bool,
}

impl Function {
    /// How many lines it spans, signature included.
    pub(crate) fn length(&self) -> usize {
        self.lines.end() + 1 - self.lines.start()
    }
}

/// `impl Trait for Type`.
#[derive(Debug)]
pub(crate) struct Impl {
    pub(crate) of_trait: String,
    pub(crate) of_type: String,
    pub(crate) in_test: bool,
}

/// `trait Name { … }`.
#[derive(Debug)]
pub(crate) struct Trait {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) methods: usize,
}

/// What the rules want to know of one file.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) paths: Vec<Path>,
    pub(crate) functions: Vec<Function>,
    pub(crate) impls: Vec<Impl>,
    pub(crate) traits: Vec<Trait>,
    /// `#[name…]` of every attribute with its line.
    pub(crate) attributes: Vec<(String, usize)>,
    /// Modules declared `#[cfg(test)] mod name;`.
    pub(crate) test_modules: BTreeSet<String>,
    /// Lines that belong to inline test items.
    pub(crate) test_lines: usize,
}

impl Source {
    /// Reads a file's tokens.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let stream = TokenStream::from_str(text).map_err(|error| error.to_string())?;
        let mut source = Self::default();
        source.walk(stream, false);
        Ok(source)
    }

    fn walk(&mut self, stream: TokenStream, in_test: bool) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        // The line where a test-only item began, until the item ends.
        let mut test_from: Option<usize> = None;
        while at < tokens.len() {
            let testing = in_test || test_from.is_some();
            match &tokens[at] {
                TokenTree::Punct(p) if p.as_char() == '#' => {
                    if let Some((attribute, next)) = attribute(&tokens, at) {
                        if is_test_attribute(attribute) && test_from.is_none() {
                            test_from = Some(line(&tokens[at]));
                        }
                        self.attribute(attribute, testing);
                        at = next;
                        continue;
                    }
                    at += 1;
                }
                TokenTree::Punct(p) if p.as_char() == ';' => {
                    self.end_test_item(&mut test_from, in_test, p.span().end().line);
                    at += 1;
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), testing);
                    if group.delimiter() == Delimiter::Brace {
                        self.end_test_item(&mut test_from, in_test, group.span_close().end().line);
                    }
                    at += 1;
                }
                TokenTree::Ident(_) => {
                    self.item(&tokens, at, testing);
                    at = self.path(&tokens, at, &[], testing);
                }
                _ => at += 1,
            }
        }
    }

    fn end_test_item(&mut self, from: &mut Option<usize>, in_test: bool, line: usize) {
        if let Some(from) = from.take()
            && !in_test
        {
            self.test_lines += line + 1 - from;
        }
    }

    fn attribute(&mut self, group: &Group, in_test: bool) {
        let name = group.stream().into_iter().next().map(|token| token.to_string()).unwrap_or_default();
        if name != "doc" {
            self.attributes.push((name, group.span_open().start().line));
            self.walk(group.stream(), in_test);
        }
    }

    /// Notes the function, impl, trait or test module that begins here, if one does.
    fn item(&mut self, tokens: &[TokenTree], at: usize, in_test: bool) {
        let rest = &tokens[at + 1..];
        match (tokens[at].to_string().as_str(), rest.first()) {
            ("fn", Some(TokenTree::Ident(name))) => {
                if let Some(body) = body(rest) {
                    let lines = line(&tokens[at])..=body.span_close().end().line;
                    self.functions.push(Function { name: name.to_string(), lines, in_test });
                }
            }
            ("trait", Some(TokenTree::Ident(name))) => {
                if let Some(body) = body(rest) {
                    let methods = body.stream().into_iter().filter(|t| t.to_string() == "fn").count();
                    self.traits.push(Trait { name: name.to_string(), line: line(&tokens[at]), methods });
                }
            }
            ("mod", Some(TokenTree::Ident(name)))
                if in_test && rest.get(1).is_some_and(|t| t.to_string() == ";") =>
            {
                self.test_modules.insert(name.to_string());
            }
            ("impl", Some(_)) => {
                if let Some((of_trait, of_type)) = impl_names(rest) {
                    self.impls.push(Impl { of_trait, of_type, in_test });
                }
            }
            _ => {}
        }
    }

    /// Records the path that begins at an identifier and returns the index after it.
    fn path(&mut self, tokens: &[TokenTree], start: usize, prefix: &[String], in_test: bool) -> usize {
        let mut segments = prefix.to_vec();
        let mut at = start;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".to_owned()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.unfold(group, &segments, in_test);
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
            if is_colon(tokens.get(at)) && is_colon(tokens.get(at + 1)) {
                at += 2;
            } else {
                break;
            }
        }
        let is_macro = is_punct(tokens.get(at), '!')
            && matches!(tokens.get(at + 1), Some(TokenTree::Group(_) | TokenTree::Ident(_)));
        self.paths.push(Path { segments, line: line(&tokens[start]), in_test, is_macro });
        at
    }

    fn unfold(&mut self, group: &Group, prefix: &[String], in_test: bool) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        for branch in tokens.split(|token| token.to_string() == ",") {
            if !branch.is_empty() {
                self.path(branch, 0, prefix, in_test);
            }
        }
    }
}

/// Files that are no Rust.
pub(crate) fn unreadable(tree: &Tree) -> Vec<Finding> {
    let broken = |(path, source): (&String, &Result<Source, String>)| {
        let error = source.as_ref().err()?;
        Some(Finding::new("source", path, 0, format!("cannot be read as Rust: {error}")))
    };
    tree.sources.iter().filter_map(broken).collect()
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

fn is_punct(token: Option<&TokenTree>, which: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == which)
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    is_punct(token, ':')
}

/// The bracket group of an attribute that begins at `#`, and the index after it.
fn attribute(tokens: &[TokenTree], at: usize) -> Option<(&Group, usize)> {
    let bracket = at + if is_punct(tokens.get(at + 1), '!') { 2 } else { 1 };
    match tokens.get(bracket) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            Some((group, bracket + 1))
        }
        _ => None,
    }
}

/// `test`, `tokio::test`, `cfg(test)`, `cfg(all(test, …))`; never `cfg(not(test))`, never `cfg_attr`.
fn is_test_attribute(group: &Group) -> bool {
    let text = group.stream().to_string().replace(' ', "");
    text == "test"
        || text.ends_with("::test")
        || text.contains("::test(")
        || (text.starts_with("cfg(") && !text.contains("not(test)") && has_word(&text, "test"))
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
}

/// The brace group that ends an item, unless a `;` comes first.
fn body(tokens: &[TokenTree]) -> Option<&Group> {
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return Some(group),
            TokenTree::Punct(p) if p.as_char() == ';' => return None,
            _ => {}
        }
    }
    None
}

/// Names of trait and type of `impl<…> Trait<…> for Type<…> {`, given what follows `impl`.
fn impl_names(tokens: &[TokenTree]) -> Option<(String, String)> {
    let head: Vec<&TokenTree> = tokens
        .iter()
        .take_while(|t| !matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace))
        .take_while(|t| !is_punct(Some(t), ';'))
        .collect();
    let middle = head
        .iter()
        .enumerate()
        .position(|(i, token)| token.to_string() == "for" && !is_punct(head.get(i + 1).copied(), '<'))?;
    Some((last_name(&head[..middle])?, last_name(&head[middle + 1..])?))
}

/// The last identifier of a type's path, outside its angle brackets and before a `where`.
fn last_name(tokens: &[&TokenTree]) -> Option<String> {
    let mut depth = 0_usize;
    let mut name = None;
    let mut arrow = false;
    for token in tokens {
        match token {
            TokenTree::Punct(p) if p.as_char() == '<' => depth += 1,
            TokenTree::Punct(p) if p.as_char() == '>' && !arrow => depth = depth.saturating_sub(1),
            TokenTree::Ident(ident) if ident == "where" && depth == 0 => break,
            TokenTree::Ident(ident) if depth == 0 => name = Some(ident.to_string()),
            _ => {}
        }
        arrow = is_punct(Some(token), '-');
    }
    name
}
