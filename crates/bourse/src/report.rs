//! How a failure is told: what happened, why, and what to do about it.
//!
//! Errors are thiserror enums that implement miette's `Diagnostic`; this prints them as plain lines
//! (`error:`, `because:`, `hint:`), which survive a pipe, a narrow terminal and a bug report.

use miette::Diagnostic;
use std::error::Error;
use std::fmt::Write as _;

/// Longest chain of causes that is printed.
const CAUSES_MAX: usize = 8;

/// What a command failed with.
pub type Failure = Box<dyn Diagnostic + Send + Sync + 'static>;

/// A failure that has no home in one of the parts: said in place, with what to do.
#[derive(Debug)]
pub struct Plain {
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Plain {
    /// What happened.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, source: None }
    }

    /// What to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Why it happened.
    #[must_use]
    pub fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// As a command's failure.
    pub fn boxed(self) -> Failure {
        Box::new(self)
    }
}

impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Plain {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl Diagnostic for Plain {
    fn help(&self) -> Option<Box<dyn std::fmt::Display + '_>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn std::fmt::Display>)
    }
}

/// The lines for a person, ending in a line break.
pub fn render(failure: &dyn Diagnostic) -> String {
    let mut text = format!("error: {failure}\n");
    let mut cause = failure.source();
    for _ in 0..CAUSES_MAX {
        let Some(error) = cause else { break };
        let _ = writeln!(text, "  because: {error}");
        cause = error.source();
    }
    if let Some(help) = failure.help() {
        let _ = writeln!(text, "  hint: {help}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_now() {
        let cause = std::io::Error::other("the disk is full");
        let failure = Plain::new("cannot write the journal").because(cause).hint("free some space").boxed();
        let want = "error: cannot write the journal\n  because: the disk is full\n  hint: free some space\n";
        assert_eq!(render(failure.as_ref()), want);
        assert_eq!(render(Plain::new("no").boxed().as_ref()), "error: no\n");
    }
}
