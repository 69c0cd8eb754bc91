//! The API's description: OpenAPI 3.1, written from the table of operations and the types of answers.
//!
//! Paths are described below `/v1`; the same stand below `/api/v1`. Every status that an operation can answer with is
//! listed with its body, so that an answer that is not described is a bug. The document is made once and is the same
//! on every machine; a copy for reading stands in the repository and a test keeps it.

use super::path;
use super::query::Parameter;
use super::table::{Answer, Base, Body, Caller, Endpoint, OPERATIONS, Operation, SchemaOf};
use bourse_wire::api::{ErrorEnvelope, MessagesErrorEnvelope, generation};
use bourse_wire::dialect::Api;
use bytes::Bytes;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// Everything that can go wrong with a generation.
const GENERATION_ERRORS: [u16; 15] =
    [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 431, 500, 502, 503, 504];

/// The document as it is served.
pub(super) fn text() -> Bytes {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    TEXT.get_or_init(|| Bytes::from(document().to_string())).clone()
}

/// The document.
pub(crate) fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for operation in &OPERATIONS {
        let path = match operation.base {
            Base::Api => format!("/v1{}", operation.path),
            Base::Root => operation.path.to_owned(),
        };
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[operation.verb.as_str().to_ascii_lowercase()] = described(operation, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bourse",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An open market for AI inference. Everything below `/v1` stands below `/api/v1`, too.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "A key of the market." },
            },
            "schemas": schemas.finish(),
        },
    })
}

/// Schemas of types, gathered while operations are described.
struct Schemas {
    answers: SchemaGenerator,
    bodies: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            answers: settings().for_serialize().into_generator(),
            bodies: settings().for_deserialize().into_generator(),
        }
    }

    fn answer(&mut self, of: SchemaOf) -> Value {
        of(&mut self.answers).to_value()
    }

    fn body(&mut self, of: SchemaOf) -> Value {
        of(&mut self.bodies).to_value()
    }

    fn error(&mut self, operation: &Operation) -> Value {
        if speaks(operation) == Api::Messages {
            self.answer(SchemaGenerator::subschema_for::<MessagesErrorEnvelope>)
        } else {
            self.answer(SchemaGenerator::subschema_for::<ErrorEnvelope>)
        }
    }

    fn finish(mut self) -> Map<String, Value> {
        let mut all = generation::components();
        all.extend(self.bodies.take_definitions(true));
        all.extend(self.answers.take_definitions(true));
        all
    }
}

/// The grammar in which an operation answers and fails.
pub(super) fn speaks(operation: &Operation) -> Api {
    match operation.endpoint {
        Endpoint::Generate(api) | Endpoint::CountTokens(api) => api,
        _ => Api::Chat,
    }
}

/// The operation's name for programs that are made from the document.
fn id(operation: &Operation) -> String {
    let path = operation.path.replace(['{', '}'], "").replace(['/', '-', '.'], "_");
    format!("{}{path}", operation.verb.as_str().to_ascii_lowercase())
}

fn described(operation: &Operation, schemas: &mut Schemas) -> Value {
    let named = path::names(operation.path).map(|name| {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 256 });
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let parameters: Vec<Value> = named.chain(operation.query.iter().map(parameter)).collect();
    let mut out = json!({
        "operationId": id(operation),
        "summary": operation.summary,
        "responses": responses(operation, schemas),
    });
    if !parameters.is_empty() {
        out["parameters"] = Value::Array(parameters);
    }
    if operation.caller != Caller::Anyone {
        out["security"] = json!([{ "key": [] }]);
    }
    if operation.caller == Caller::ManagementKey {
        out["description"] = json!("Needs a management key.");
    }
    if let Some(content) = request(operation, schemas) {
        out["requestBody"] = json!({ "required": true, "content": content });
    }
    out
}

fn parameter(of: &Parameter) -> Value {
    json!({
        "name": of.name, "in": "query", "required": of.is_required,
        "description": of.description, "schema": of.of.schema(),
    })
}

fn to(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn request(operation: &Operation, schemas: &mut Schemas) -> Option<Value> {
    Some(match (operation.body, operation.endpoint) {
        (Body::None, _) => return None,
        (Body::Json(of), _) => json!({ "application/json": { "schema": schemas.body(of) } }),
        (Body::Generation, Endpoint::CountTokens(Api::Messages)) => {
            json!({ "application/json": { "schema": to(generation::COUNT_REQUEST) } })
        }
        (Body::Generation, _) => {
            let shapes = generation::shapes(speaks(operation));
            let mut content = json!({ "application/json": { "schema": to(shapes.request) } });
            if let Some(form) = shapes.form {
                content["multipart/form-data"] = json!({ "schema": to(form) });
            }
            content
        }
    })
}

fn responses(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut all = Map::new();
    let (status, content) = match (operation.answer, operation.endpoint) {
        (Answer::Json(status, of), _) => {
            (status, json!({ "application/json": { "schema": schemas.answer(of) } }))
        }
        (Answer::Object, _) => (200, json!({ "application/json": { "schema": { "type": "object" } } })),
        (Answer::Text, _) => (200, json!({ "text/plain": { "schema": { "type": "string" } } })),
        (Answer::Generation, Endpoint::CountTokens(_)) => {
            (200, json!({ "application/json": { "schema": to(generation::COUNT_ANSWER) } }))
        }
        (Answer::Generation, _) => (200, generated(speaks(operation))),
    };
    let good = json!({ "description": "What was asked for.", "content": content });
    for status in statuses(operation) {
        let error = json!({ "application/json": { "schema": schemas.error(operation) } });
        let is_health = operation.endpoint == Endpoint::Health && status == 503;
        let content = if is_health { good["content"].clone() } else { error };
        all.insert(status.to_string(), json!({ "description": meaning(status), "content": content }));
    }
    all.insert(status.to_string(), good);
    Value::Object(all)
}

fn generated(api: Api) -> Value {
    let shapes = generation::shapes(api);
    let text = json!({ "schema": { "type": "string" } });
    let Some(answer) = shapes.answer else {
        return json!({ "audio/*": {}, "application/octet-stream": {}, "text/event-stream": text });
    };
    let mut content = json!({ "application/json": { "schema": to(answer) } });
    if api == Api::Transcription {
        content["text/plain"] = text.clone();
    }
    if shapes.streams {
        content["text/event-stream"] = text;
    }
    content
}

/// The statuses of errors that an operation can answer with.
pub(super) fn statuses(operation: &Operation) -> Vec<u16> {
    if let Endpoint::Generate(_) = operation.endpoint {
        return GENERATION_ERRORS.to_vec();
    }
    let has_body = !matches!(operation.body, Body::None);
    let is_keyed = operation.caller != Caller::Anyone;
    let is_managed = operation.caller == Caller::ManagementKey;
    let is_log =
        matches!(operation.endpoint, Endpoint::Checkpoint | Endpoint::Consistency | Endpoint::Figures);
    let looks_up = path::varies(operation.path)
        || is_managed
        || matches!(
            operation.endpoint,
            Endpoint::Generation | Endpoint::BestExecution | Endpoint::CountTokens(_) | Endpoint::Figures
        );
    let conditions = [
        (has_body || !operation.query.is_empty() || path::varies(operation.path), 400),
        (is_keyed, 401),
        (is_managed || operation.endpoint == Endpoint::OwnModels, 403),
        (looks_up, 404),
        (has_body, 408),
        (is_managed, 409),
        (has_body, 413),
        (is_keyed, 429),
        (true, 431),
        (is_keyed || is_log, 500),
        (is_keyed || is_log || operation.endpoint == Endpoint::Health, 503),
    ];
    conditions.into_iter().filter(|(may, _)| *may).map(|(_, status)| status).collect()
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The call is not what the API accepts; `param` names the field.",
        401 => "There is no key, or one that is not known.",
        402 => "The credit or the key's limit does not cover it; `metadata.limit` says what is left.",
        403 => {
            "The caller may not do this, a budget of its workspace or organisation does not cover it, or a seller's filter refuses the content."
        }
        404 => "There is no such thing, or nobody offers it.",
        408 => "The body did not arrive in time.",
        409 => "It was done before, with other content.",
        413 => "The body is larger than the bound.",
        422 => "It is well formed and cannot be done.",
        429 => "Too many requests; `Retry-After` says when.",
        431 => "There are too many header fields; a head that is far too large is answered without a body.",
        500 => "The market itself failed.",
        502 => "A seller failed, and no other was left.",
        503 => "Sellers are full or away, or the market is closing.",
        _ => "The deadline passed.",
    }
}
