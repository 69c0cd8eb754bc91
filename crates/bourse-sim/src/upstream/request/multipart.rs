//! Forms with files (RFC 7578), as far as an upload of a sound needs them.
//!
//! The body is in memory already and bounded there; parts are slices of it. No encodings of file names,
//! no nested forms.

/// Most parts of a form.
const PARTS_MAX: usize = 32;

/// One part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) file_name: Option<String>,
    pub(super) bytes: &'a [u8],
}

/// Why a form cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    #[error("the content type must be multipart/form-data with a boundary")]
    NoBoundary,
    #[error("the form is not whole: its last boundary is missing")]
    NotWhole,
    #[error("a part of the form has no name")]
    NoName,
    #[error("the form has more than {PARTS_MAX} parts")]
    TooMany,
}

/// Reads a form.
pub(super) fn parse<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, FormError> {
    let is_form = content_type.to_ascii_lowercase().starts_with("multipart/form-data");
    let boundary = parameter(content_type, "boundary").filter(|boundary| is_form && !boundary.is_empty());
    let boundary = boundary.ok_or(FormError::NoBoundary)?;
    let mark = format!("\r\n--{boundary}").into_bytes();
    // The first boundary may stand at the very beginning.
    let mut rest = match body.strip_prefix(&mark[2..]) {
        Some(rest) => rest,
        None => {
            memchr::memmem::find(body, &mark).map(|at| &body[at + mark.len()..]).ok_or(FormError::NotWhole)?
        }
    };
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let inner = rest.strip_prefix(b"\r\n").ok_or(FormError::NotWhole)?;
        let end = memchr::memmem::find(inner, &mark).ok_or(FormError::NotWhole)?;
        if parts.len() == PARTS_MAX {
            return Err(FormError::TooMany);
        }
        parts.push(part(&inner[..end])?);
        rest = &inner[end + mark.len()..];
    }
    Ok(parts)
}

fn part(bytes: &[u8]) -> Result<Part<'_>, FormError> {
    let split = memchr::memmem::find(bytes, b"\r\n\r\n").ok_or(FormError::NotWhole)?;
    let head = String::from_utf8_lossy(&bytes[..split]);
    let is_disposition = |line: &&str| line.to_ascii_lowercase().starts_with("content-disposition:");
    let line = head.lines().find(is_disposition).ok_or(FormError::NoName)?;
    let name = parameter(line, "name").ok_or(FormError::NoName)?;
    Ok(Part { name, file_name: parameter(line, "filename"), bytes: &bytes[split + 4..] })
}

/// `name="value"` or `name=value` in a header field.
fn parameter(field: &str, name: &str) -> Option<String> {
    field.split(';').skip(1).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"xx\"";

    fn form(parts: usize) -> Vec<u8> {
        let one = "--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n";
        format!("{}--xx--\r\n", one.repeat(parts)).into_bytes()
    }

    #[test]
    fn reads_fields_and_files() {
        let body = b"--xx\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n\
            --xx\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
            Content-Type: audio/wav\r\n\r\n\x00\xff\r\n\r\n\r\n--xx--\r\n";
        let parts = parse(TYPE, body).unwrap();
        assert_eq!((parts[0].name.as_str(), parts[0].bytes), ("model", &b"m"[..]));
        assert_eq!(parts[1].file_name.as_deref(), Some("a.wav"));
        assert_eq!(parts[1].bytes, b"\x00\xff\r\n\r\n");
    }

    #[test]
    fn refuses_what_is_not_a_whole_form() {
        assert_eq!(parse("application/json", b""), Err(FormError::NoBoundary));
        assert_eq!(parse(TYPE, b"--xx\r\n"), Err(FormError::NotWhole));
        assert_eq!(parse(TYPE, b"--xx\r\nx: y\r\n\r\n1\r\n--xx--"), Err(FormError::NoName));
        assert_eq!(parse(TYPE, &form(PARTS_MAX)).unwrap().len(), PARTS_MAX);
        assert_eq!(parse(TYPE, &form(PARTS_MAX + 1)), Err(FormError::TooMany));
    }
}
