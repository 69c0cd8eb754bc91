//! Stop strings across token borders.
//!
//! Text is released only when it can no longer be the beginning of a stop string; when one is complete,
//! the answer ends before it. The first stop string to be *completed* wins, and among those completed by
//! the same character the one that begins earliest. Text held back is shorter than the longest stop string.

/// What became of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// No stop string so far.
    Open,
    /// A stop string is complete; nothing after it counts.
    Stopped,
}

/// Watches one answer for stop strings.
#[derive(Debug, Clone, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// Watches for `stops`; empty strings are ignored.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Takes a piece of text and appends what is safe to send to `out`.
    pub fn push(&mut self, text: &str, out: &mut String) -> StopOutcome {
        if self.stops.is_empty() {
            out.push_str(text);
            return StopOutcome::Open;
        }
        for character in text.chars() {
            self.held.push(character);
            let found = self.stops.iter().filter(|stop| self.held.ends_with(stop.as_str()));
            if let Some(longest) = found.map(String::len).max() {
                self.held.truncate(self.held.len() - longest);
                out.push_str(&self.held);
                self.held.clear();
                return StopOutcome::Stopped;
            }
        }
        let safe = self.held.len() - self.undecided_bytes();
        out.push_str(&self.held[..safe]);
        self.held.drain(..safe);
        StopOutcome::Open
    }

    /// Ends the answer without a stop string: what was held back is text after all.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Length of the longest end of the held text that begins a stop string.
    fn undecided_bytes(&self) -> usize {
        let starts = self.held.char_indices().map(|(at, _)| at);
        let mut ends = starts.map(|at| &self.held[at..]);
        ends.find(|end| self.stops.iter().any(|stop| stop.starts_with(end))).map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(stops: &[&str], pieces: &[&str], want: &[&str], stopped: bool) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut got = Vec::new();
        let mut outcome = StopOutcome::Open;
        for piece in pieces {
            let mut out = String::new();
            outcome = matcher.push(piece, &mut out);
            got.push(out);
        }
        let mut out = String::new();
        matcher.finish(&mut out);
        got.push(out);
        assert_eq!(got, want);
        assert_eq!(outcome == StopOutcome::Stopped, stopped);
    }

    #[test]
    fn a_stop_string_across_pieces_is_cut_out() {
        check(&["END"], &["one E", "N", "D two"], &["one ", "", "", ""], true);
        check(&["\n\n"], &["a\n", "\nb"], &["a", "", ""], true);
        check(&["ab"], &["xab"], &["x", ""], true);
    }

    #[test]
    fn what_only_looked_like_a_stop_string_is_released() {
        check(&["END"], &["one EN", "E", "X"], &["one ", "EN", "EX", ""], false);
        check(&["END"], &["EN"], &["", "EN"], false);
        check(&["aab"], &["aa", "ab"], &["", "a", ""], true);
    }

    #[test]
    fn the_first_completed_wins_and_then_the_earliest() {
        check(&["abc", "b"], &["a", "bc"], &["", "a", ""], true);
        check(&["yz", "xyz"], &["wxyz"], &["w", ""], true);
    }

    #[test]
    fn characters_are_never_split() {
        check(&["éé"], &["aé", "é"], &["a", "", ""], true);
        check(&["€x"], &["€", "€"], &["", "€", "€"], false);
    }

    #[test]
    fn no_or_empty_stop_strings_hold_nothing_back() {
        check(&[], &["END"], &["END", ""], false);
        check(&[""], &["END"], &["END", ""], false);
    }

    proptest! {
        #[test]
        fn the_answer_is_what_stands_before_the_first_stop(text in "[abc]{0,20}", stop in "[abc]{1,3}", cut in 1usize..4) {
            let mut matcher = StopMatcher::new(std::slice::from_ref(&stop));
            let mut out = String::new();
            let mut stopped = false;
            let characters: Vec<char> = text.chars().collect();
            for piece in characters.chunks(cut) {
                let piece: String = piece.iter().collect();
                if matcher.push(&piece, &mut out) == StopOutcome::Stopped {
                    stopped = true;
                    break;
                }
                prop_assert!(matcher.held.len() < stop.len());
            }
            matcher.finish(&mut out);
            let want = text.find(&stop).map_or(text.as_str(), |at| &text[..at]);
            prop_assert_eq!(stopped, text.contains(&stop));
            prop_assert_eq!(out, want);
        }
    }
}
