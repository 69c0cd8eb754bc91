mod answers;
mod streams;

use super::*;

fn job(api: Api, body: &str) -> Result<Job, ApiError> {
    parse(api, Bytes::from(body.to_owned()))
}

fn bounds(api: Api, body: &str) -> (u64, u64) {
    let job = job(api, body).unwrap();
    (job.prompt_bytes(), job.passed.unwrap().units_max)
}

fn check(api: Api, body: &str, param: &str, says: &str) {
    let error = job(api, body).unwrap_err();
    assert_eq!(error.status(), 400, "{body}");
    assert_eq!(error.param.as_deref(), Some(param), "{body}");
    assert!(error.message.contains(says), "{}", error.message);
}

#[test]
fn what_is_bought_is_bounded() {
    assert_eq!(bounds(Api::Embeddings, r#"{"model":"a/b","input":"hello"}"#), (7, 0));
    assert_eq!(bounds(Api::Embeddings, r#"{"model":"a/b","input":[1,22,333]}"#), (10, 0));
    assert_eq!(bounds(Api::Speech, r#"{"model":"a/b","input":"h\u00e9é","voice":"x"}"#).1, 3);
    assert_eq!(bounds(Api::Images, r#"{"model":"a/b","prompt":"cat"}"#).1, 1);
    assert_eq!(bounds(Api::Images, r#"{"model":"a/b","prompt":"cat","n":4}"#).1, 4);
    let documents = vec!["\"d\""; 101].join(",");
    let rerank = format!(r#"{{"model":"a/b","query":"qq","documents":[{documents}]}}"#);
    let (bytes, searches) = bounds(Api::Rerank, &rerank);
    assert_eq!((bytes, searches), (documents.len() as u64 + 2 + 101 * 4, 2));
    let sound =
        format!(r#"{{"model":"a/b","input_audio":{{"data":"{}","format":"wav"}}}}"#, "A".repeat(10_000));
    assert_eq!(bounds(Api::Transcription, &sound), (0, 11));
}

#[test]
fn bad_fields_are_named() {
    check(Api::Embeddings, r#"{"input":"x"}"#, "model", "missing");
    check(Api::Embeddings, r#"{"model":"a/b"}"#, "input", "missing");
    check(Api::Embeddings, r#"{"model":"a/b","input":""}"#, "input", "1 to 2048");
    check(Api::Embeddings, r#"{"model":"a/b","input":[]}"#, "input", "1 to 2048");
    check(Api::Embeddings, r#"{"model":"a/b","input":"x","input":"y"}"#, "input", "twice");
    check(
        Api::Embeddings,
        r#"{"model":"a/b","input":"x","provider":{"onli":["y"]}}"#,
        "provider.onli",
        "only",
    );
    check(Api::Rerank, r#"{"model":"a/b","documents":["x"]}"#, "query", "missing");
    check(Api::Rerank, r#"{"model":"a/b","query":"q","documents":"x"}"#, "documents", "array");
    check(Api::Rerank, r#"{"model":"a/b","query":"q","documents":[1]}"#, "documents", "texts or objects");
    check(Api::Rerank, r#"{"model":"a/b","query":"q","documents":[]}"#, "documents", "1 to 10000");
    check(Api::Images, r#"{"model":"a/b","prompt":"x","n":11}"#, "n", "1 to 10");
    check(Api::Speech, r#"{"model":"a/b","input":"x","stream":true}"#, "stream", "stream_format");
    check(Api::Speech, r#"{"model":"a/b","input":"x","stream_format":"wav"}"#, "stream_format", "`sse`");
    check(Api::Embeddings, r#"{"model":"a/b","input":"x","stream":true}"#, "stream", "one piece");
    check(Api::Transcription, r#"{"model":"a/b"}"#, "input_audio", "form");
}

#[test]
fn lists_and_texts_have_bounds() {
    let inputs = |n: usize| {
        job(Api::Embeddings, &format!(r#"{{"model":"m","input":[{}]}}"#, vec!["\"x\""; n].join(",")))
    };
    assert!(inputs(INPUTS_MAX).is_ok());
    assert!(inputs(INPUTS_MAX + 1).is_err());
    let documents = |n: usize| {
        job(
            Api::Rerank,
            &format!(r#"{{"model":"m","query":"q","documents":[{}]}}"#, vec!["\"x\""; n].join(",")),
        )
    };
    assert!(documents(DOCUMENTS_MAX).is_ok());
    assert!(documents(DOCUMENTS_MAX + 1).is_err());
    let speech = |n: usize| job(Api::Speech, &format!(r#"{{"model":"m","input":"{}"}}"#, "x".repeat(n)));
    assert!(speech(SPEECH_CHARACTERS_MAX).is_ok());
    assert!(speech(SPEECH_CHARACTERS_MAX + 1).is_err());
}

#[test]
fn the_seller_gets_the_buyers_bytes() {
    let job = job(
        Api::Embeddings,
        r#"{"input" : "x", "provider":{"only":["p"]}, "model":"a/b","dimensions":3, "user":"u"}"#,
    )
    .unwrap();
    assert_eq!(job.rebuild("up/id", None), r#"{"input" : "x","model":"up/id","dimensions":3,"user":"u"}"#);
    assert_eq!(job.preferences.only.len(), 1);
}

fn form(parts: &[(&str, &str)]) -> Bytes {
    let part = |(name, value): &(&str, &str)| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let parts: String = parts.iter().map(part).collect();
    Bytes::from(format!("{parts}--XX--\r\n"))
}

const FORM: &str = "multipart/form-data; boundary=XX";

#[test]
fn a_form_is_read_and_written_for_the_seller() {
    let body = form(&[
        ("file", "RIFF\r\n--X"),
        ("provider", r#"{"only":["p"]}"#),
        ("model", "a/b"),
        ("language", "en"),
    ]);
    let job = parse_form(FORM, &body).unwrap();
    assert_eq!((job.model.as_str(), job.preferences.only.len()), ("a/b", 1));
    assert_eq!(job.passed.as_ref().unwrap().units_max, 1);
    let want = form(&[("file", "RIFF\r\n--X"), ("model", "up/id"), ("language", "en")]);
    assert_eq!(job.rebuild("up/id", None), want);
    let swapped = form(&[("model", "a/b"), ("file", "x"), ("provider", "{}")]);
    let job = parse_form("multipart/form-data; charset=utf-8; boundary=\"XX\"", &swapped).unwrap();
    assert_eq!(job.rebuild("u", None), form(&[("model", "u"), ("file", "x")]));
}

#[test]
fn broken_forms_are_refused() {
    let ok = form(&[("model", "a/b"), ("file", "x")]);
    for (kind, body) in [
        ("application/json", ok.clone()),
        ("multipart/form-data", ok.clone()),
        (FORM, Bytes::from_static(b"nothing")),
        (FORM, ok.slice(..ok.len() - 6)),
        (FORM, form(&[("model", "a/b")])),
        (FORM, form(&[("file", "x")])),
        (FORM, form(&[("model", "a/b"), ("model", "c/d"), ("file", "x")])),
        (FORM, form(&[("model", "a/b"), ("file", "x"), ("stream", "yes")])),
        (FORM, form(&[("model", "a/b"), ("file", "x"), ("stream", "true"), ("response_format", "srt")])),
    ] {
        assert_eq!(parse_form(kind, &body).unwrap_err().status(), 400, "{kind} {body:?}");
    }
    let parts = |n: usize| {
        let mut parts = vec![("model", "a/b"), ("file", "x")];
        parts.resize(n, ("other", "y"));
        parse_form(FORM, &form(&parts))
    };
    assert!(parts(FORM_PARTS_MAX).is_ok());
    assert!(parts(FORM_PARTS_MAX + 1).is_err());
}

#[test]
fn the_content_type_tells_forms_from_json() {
    let body = form(&[("model", "a/b"), ("file", "x"), ("response_format", "srt")]);
    let typed = |api, kind| parse_typed(api, Some(kind), body.clone());
    assert!(typed(Api::Transcription, FORM).unwrap().passed.unwrap().is_text);
    assert!(typed(Api::Transcription, "Multipart/form-data; boundary=XX").is_ok());
    assert!(typed(Api::Embeddings, FORM).unwrap_err().message.contains("application/json"));
    assert_eq!(typed(Api::Transcription, "application/json").unwrap_err().status(), 400);
    let json = Bytes::from_static(br#"{"model":"a/b","input":"x"}"#);
    assert!(parse_typed(Api::Embeddings, None, json.clone()).is_ok());
    assert!(parse_typed(Api::Embeddings, Some("text/plain"), json).is_ok());
}

fn spoken(members: &str) -> Result<(Option<String>, Bytes), ApiError> {
    job(Api::Transcription, &format!(r#"{{"model":"a/b",{members}}}"#))?.rebuild_typed(
        "up/id",
        None,
        crate::dialect::chat::Manner::VERBATIM,
    )
}

#[test]
fn a_sound_within_json_goes_on_in_a_form() {
    let (kind, body) = spoken(
        r#""input_audio":{"data":"UklGRg==","format":"wav"},"language":"en","temperature":0.5,
           "timestamp_granularities":["word","segment"],"provider":{"only":["p"]},"extra":{"x":1},"prompt":null"#,
    )
    .unwrap();
    let kind = kind.unwrap();
    let mark = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    // RFC 2046 allows 70 characters.
    assert!(mark.starts_with("bourse-") && mark.len() <= 70, "{mark}");
    let part = |head: &str, value: &str| {
        format!("--{mark}\r\nContent-Disposition: form-data; name={head}\r\n\r\n{value}\r\n")
    };
    let want = [
        part("\"file\"; filename=\"sound.wav\"\r\nContent-Type: audio/wav", "RIFF"),
        part("\"model\"", "up/id"),
        part("\"language\"", "en"),
        part("\"temperature\"", "0.5"),
        part("\"timestamp_granularities[]\"", "word"),
        part("\"timestamp_granularities[]\"", "segment"),
        format!("--{mark}--\r\n"),
    ];
    assert_eq!(std::str::from_utf8(&body).unwrap(), want.concat());
    let refused = |members| spoken(members).unwrap_err().param.unwrap().into_owned();
    assert_eq!(refused(r#""input_audio":"UklGRg==""#), "input_audio");
    assert_eq!(refused(r#""input_audio":{"data":"UklGRg=="}"#), "input_audio");
    assert_eq!(refused(r#""input_audio":{"data":"?","format":"wav"}"#), "input_audio.data");
    assert_eq!(refused(r#""input_audio":{"data":"","format":"wav"}"#), "input_audio.data");
    assert_eq!(refused(r#""input_audio":{"data":"====","format":"wav"}"#), "input_audio.data");
    assert_eq!(refused(r#""input_audio":{"data":"UklGRg==","format":"w\r\nv"}"#), "input_audio.format");
}
