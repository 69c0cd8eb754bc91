//! A sealed answer that a gateway gives to be kept, in parts.
//!
//! One at a time for each gateway, which sends the next part when this one was taken. A part that does not go on where the one
//! before ended ends the upload: the answer is not kept, and a lost answer is no lost money. Limit: [`SEALED_BYTES_MAX`].

use bourse_types::{Digest32, RequestId};
use bourse_wire::funds::port::KeptPart;
use bourse_wire::funds::{FundsError, SEALED_BYTES_MAX};

/// What there is too much of.
const TOO_MANY: FundsError = FundsError::TooMany("bytes of answers");

/// The upload of one gateway.
#[derive(Default)]
pub(super) struct Upload {
    of: Option<(Digest32, RequestId, u32)>,
    bytes: Vec<u8>,
}

impl Upload {
    /// Takes a part. The whole answer with its last one.
    pub(super) fn take(&mut self, part: KeptPart) -> Result<Option<KeptPart>, FundsError> {
        let of = (part.name, part.request, part.len);
        if part.at == 0 {
            (self.of, self.bytes) = (Some(of), Vec::new());
        }
        let goes_on = self.of == Some(of) && self.bytes.len() == part.at as usize;
        let len = self.bytes.len() + part.part.len();
        if !goes_on || part.len as usize > SEALED_BYTES_MAX || len > part.len as usize || part.part.is_empty()
        {
            *self = Self::default();
            return Err(TOO_MANY);
        }
        if len == part.len as usize && part.at == 0 {
            *self = Self::default();
            return Ok(Some(part));
        }
        self.bytes.extend_from_slice(&part.part);
        if len < part.len as usize {
            return Ok(None);
        }
        let whole = std::mem::take(self).bytes;
        Ok(Some(KeptPart { at: 0, part: whole.into(), ..part }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_types::UnixMs;

    fn part(n: u8, len: usize, at: usize, bytes: usize) -> KeptPart {
        let (name, request, now) = (Digest32([n; 32]), RequestId(u128::from(n)), UnixMs(1));
        KeptPart { name, request, now, len: len as u32, at: at as u32, part: vec![n; bytes].into() }
    }

    #[test]
    fn parts_are_put_together_in_their_order() {
        let mut upload = Upload::default();
        assert_eq!(upload.take(part(1, 5, 0, 5)).unwrap(), Some(part(1, 5, 0, 5)), "one part is the whole");
        assert_eq!(upload.take(part(1, 5, 0, 2)).unwrap(), None);
        assert_eq!(upload.take(part(1, 5, 2, 2)).unwrap(), None);
        assert_eq!(upload.take(part(1, 5, 4, 1)).unwrap(), Some(part(1, 5, 0, 5)));
        assert!(upload.take(part(1, 5, 4, 1)).is_err(), "it is over");
        for odd in [part(2, 5, 2, 2), part(1, 6, 2, 2), part(1, 5, 3, 2), part(1, 5, 2, 4), part(1, 5, 2, 0)]
        {
            assert_eq!(upload.take(part(1, 5, 0, 2)).unwrap(), None);
            assert!(upload.take(odd.clone()).is_err(), "{odd:?}");
            assert!(upload.take(part(1, 5, 2, 2)).is_err(), "it has ended");
        }
        assert_eq!(upload.take(part(1, 5, 0, 2)).unwrap(), None);
        assert_eq!(upload.take(part(2, 3, 0, 2)).unwrap(), None, "a new one ends it");
        assert!(upload.take(part(1, 5, 2, 2)).is_err());
    }

    #[test]
    fn an_answer_is_as_long_as_one_that_is_kept_may_be() {
        let mut upload = Upload::default();
        assert_eq!(upload.take(part(1, SEALED_BYTES_MAX, 0, 9)).unwrap(), None);
        assert!(upload.take(part(1, SEALED_BYTES_MAX + 1, 0, 9)).is_err());
    }
}
