//! Tool calls and their results, paired: the rule that every vendor has and words in its own way.

use std::collections::HashSet;

/// The calls of the turn before that still wait for a result.
#[derive(Debug, Default)]
pub(super) struct OpenCalls {
    waiting: Vec<String>,
    all: HashSet<String>,
}

impl OpenCalls {
    /// A call was made; false when the id was used before.
    pub(super) fn called(&mut self, id: &str) -> bool {
        self.waiting.push(id.to_owned());
        self.all.insert(id.to_owned())
    }

    /// A result came; false when no call of the turn before waits for it.
    pub(super) fn answered(&mut self, id: &str) -> bool {
        let found = self.waiting.iter().position(|waiting| waiting == id);
        found.map(|at| self.waiting.remove(at)).is_some()
    }

    /// The ids without a result.
    pub(super) fn waiting(&self) -> &[String] {
        &self.waiting
    }
}
