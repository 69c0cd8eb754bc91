//! What a writer left out of a request, each thing once.

use super::grammar::Written;
use super::neutral::Notice;
use bytes::Bytes;
use serde::Serialize;

/// Collects notices.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Notice>);

impl Notes {
    /// Says that something was left out; the second time says nothing.
    pub(super) fn add(&mut self, param: &'static str, what: &'static str) {
        let notice = Notice::new(param, what);
        if !self.0.contains(&notice) {
            self.0.push(notice);
        }
    }

    /// Says of each wish that is there that the seller has no word for it.
    pub(super) fn add_unknown<const N: usize>(&mut self, wishes: [(&'static str, bool); N]) {
        for (param, _) in wishes.into_iter().filter(|(_, is_there)| *is_there) {
            self.add(param, "unknown to the seller, left out");
        }
    }

    /// The body of a call, with what was left out of it.
    pub(super) fn written(self, body: &impl Serialize) -> Written {
        let body =
            serde_json::to_vec(body).expect("text, numbers and raw JSON serialise, and a Vec takes it all");
        Written { body: Bytes::from(body), notices: self.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once() {
        let mut notes = Notes::default();
        notes.add("a", "left out");
        notes.add_unknown([("b", true), ("c", false), ("b", true)]);
        notes.add("a", "left out");
        let written = notes.written(&[1]);
        let said: Vec<&str> = written.notices.iter().map(|notice| notice.param.as_ref()).collect();
        assert_eq!((said.as_slice(), written.body.as_ref()), (["a", "b"].as_slice(), b"[1]".as_slice()));
    }
}
