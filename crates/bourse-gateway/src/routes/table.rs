//! The table of operations: what can be called, by whom, with what, for what.
//!
//! The router finds a call's operation here and the OpenAPI document is written from here, so that what is described
//! and what is served cannot differ. Paths stand below `/v1` and equally below `/api/v1`, where OpenRouter's clients
//! look for them; a few stand at the root. Those that are called most stand first.

use super::query::{
    AGE, DATE, FLAG, INSTANT, LIMIT, LIST, NAME, OFFSET, PRICE, Parameter, SHARE, SORT, TOKENS,
};
use bourse_wire::api::{
    ActivityItem, BestExecution, Budget, BudgetDeleted, BudgetSet, Credits, CurrentKey, Data,
    Endpoint as Offered, GenerationRecord, Health, Key, KeyCreate, KeyCreated, KeyDeleted, KeyUpdate, Limits,
    List, MarketFigures, Model, ModelCount, ModelEndpoints, ModelList, Provider, RatesSet, Workspace,
    WorkspaceCreate,
};
use bourse_wire::dialect::Api;
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A generation.
    Generate(Api),
    /// Prompt tokens of a request that is not made.
    CountTokens(Api),
    Models,
    ModelCount,
    OwnModels,
    ModelsOf(Kind),
    Model,
    ModelDetails,
    ModelEndpoints,
    ZdrEndpoints,
    Providers,
    Generation,
    Key,
    Credits,
    Activity,
    CreateKey,
    ListKeys,
    GetKey,
    UpdateKey,
    DeleteKey,
    CreateWorkspace,
    ListWorkspaces,
    /// A part with its limits.
    Limits(Part),
    /// Of a workspace.
    Budgets,
    PutBudget(Part),
    DeleteBudget(Part),
    PutRates(Part),
    BestExecution,
    Receipt,
    Checkpoint,
    Consistency,
    Figures,
    Description,
    Health,
    Metrics,
    Admin,
}

/// What models of one kind put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Embeddings,
    Images,
}

/// Whose limits an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Workspace,
    Organization,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Anyone,
    /// Whoever has a key.
    Key,
    /// Whoever has a key that administers keys.
    ManagementKey,
    /// Whoever has the admin token, from this machine; not described.
    Operator,
}

/// The methods that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `HEAD` means the same.
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    /// The verb of a call; none for a method that nothing uses.
    pub(crate) fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Some(Self::Get),
            Method::POST => Some(Self::Post),
            Method::PUT => Some(Self::Put),
            Method::PATCH => Some(Self::Patch),
            Method::DELETE => Some(Self::Delete),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Where a path stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// Below `/v1` and `/api/v1`.
    Api,
    Root,
}

/// The schema of a type.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What comes with a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    None,
    Json(SchemaOf),
    /// As the endpoint's grammar has it.
    Generation,
}

/// What comes back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Json(u16, SchemaOf),
    /// JSON that is described in words.
    Object,
    Text,
    /// As the endpoint's grammar has it.
    Generation,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) endpoint: Endpoint,
    pub(crate) verb: Verb,
    pub(crate) base: Base,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) caller: Caller,
    pub(crate) query: &'static [Parameter],
    pub(crate) body: Body,
    pub(crate) answer: Answer,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn generate(api: Api, path: &'static str, summary: &'static str) -> Operation {
    Operation {
        endpoint: Endpoint::Generate(api),
        verb: Verb::Post,
        base: Base::Api,
        path,
        summary,
        caller: Caller::Key,
        query: &[],
        body: Body::Generation,
        answer: Answer::Generation,
    }
}

const fn count(api: Api, path: &'static str) -> Operation {
    let summary = "Counts the prompt tokens of a request, or estimates them where nobody can. Free.";
    Operation { endpoint: Endpoint::CountTokens(api), ..generate(api, path, summary) }
}

const fn get(
    endpoint: Endpoint,
    path: &'static str,
    caller: Caller,
    query: &'static [Parameter],
    answer: Answer,
    summary: &'static str,
) -> Operation {
    let (verb, base, body) = (Verb::Get, Base::Api, Body::None);
    Operation { endpoint, verb, base, path, summary, caller, query, body, answer }
}

const fn root(endpoint: Endpoint, path: &'static str, answer: Answer, summary: &'static str) -> Operation {
    Operation { base: Base::Root, ..get(endpoint, path, Caller::Anyone, &[], answer, summary) }
}

const fn change(
    (endpoint, verb): (Endpoint, Verb),
    path: &'static str,
    body: Body,
    answer: Answer,
    summary: &'static str,
) -> Operation {
    let (base, caller) = (Base::Api, Caller::ManagementKey);
    Operation { endpoint, verb, base, path, summary, caller, query: &[], body, answer }
}

use Answer::{Json, Object, Text};
use Caller::{Anyone, Key as AnyKey};

const fn put_rates(part: Part, path: &'static str, summary: &'static str) -> Operation {
    let body = Body::Json(of::<RatesSet>);
    change((Endpoint::PutRates(part), Verb::Put), path, body, Json(200, of::<Data<Limits>>), summary)
}

const fn put_budget(part: Part, path: &'static str, summary: &'static str) -> Operation {
    let body = Body::Json(of::<BudgetSet>);
    change((Endpoint::PutBudget(part), Verb::Put), path, body, Json(200, of::<Data<Budget>>), summary)
}

const fn delete_budget(part: Part, path: &'static str, summary: &'static str) -> Operation {
    let answer = Json(200, of::<BudgetDeleted>);
    change((Endpoint::DeleteBudget(part), Verb::Delete), path, Body::None, answer, summary)
}

const fn limits(part: Part, path: &'static str, summary: &'static str) -> Operation {
    let answer = Json(200, of::<Data<Limits>>);
    change((Endpoint::Limits(part), Verb::Get), path, Body::None, answer, summary)
}

const OUTPUT: Parameter = Parameter::new(
    "output_modalities",
    LIST,
    "What comes out: text, image, embeddings, rerank, speech, transcription; `all` for everything, as if left out.",
);
const SORTED: Parameter = Parameter::new("sort", SORT, "The order; by slug when left out.");
const PAGE: [Parameter; 2] = [
    Parameter::new("offset", OFFSET, "Models to leave out at the beginning."),
    Parameter::new("limit", LIMIT, "Models of the page at most; all when left out."),
];

const MODEL_FILTERS: &[Parameter] = &[
    PAGE[0],
    PAGE[1],
    SORTED,
    OUTPUT,
    Parameter::new(
        "after_id",
        NAME,
        "The model before the page, where Anthropic's clients page; goes before `offset`.",
    ),
    Parameter::new("q", NAME, "A part of the slug."),
    Parameter::new(
        "category",
        NAME,
        "Accepted for the field's clients. Models are not sorted into categories here, so it leaves all.",
    ),
    Parameter::new("supported_parameters", LIST, "Parameters that one offer must support together."),
    Parameter::new("input_modalities", LIST, "What must go in: text, image."),
    Parameter::new("context", TOKENS, "Tokens of context at least."),
    Parameter::new("arch", NAME, "Family of the tokenizer. None is recorded but `Other`."),
    Parameter::new("model_authors", LIST, "Authors, the first part of the slug."),
    Parameter::new("providers", LIST, "Sellers of which one must offer it."),
    Parameter::new("distillable", FLAG, "Whether the author allows training on answers."),
    Parameter::new("zdr", FLAG, "`true`: a seller that promises to keep nothing must offer it."),
    Parameter::new(
        "region",
        NAME,
        "A region in which it must be offered, in the sellers' words, or their beginning.",
    ),
    Parameter::new("min_price", PRICE, "Dollars per million prompt tokens at least."),
    Parameter::new("max_price", PRICE, "Dollars per million prompt tokens at most."),
    Parameter::new("min_output_price", PRICE, "Dollars per million generated tokens at least."),
    Parameter::new("max_output_price", PRICE, "Dollars per million generated tokens at most."),
    Parameter::new(
        "min_age_days",
        AGE,
        "Days since its making at least; leaves out models whose age is not recorded.",
    ),
    Parameter::new(
        "max_age_days",
        AGE,
        "Days since its making at most; leaves out models whose age is not recorded.",
    ),
    Parameter::new(
        "min_tool_success_rate",
        SHARE,
        "Share of good tool calls over two hours at least; leaves out models without any.",
    ),
    Parameter::new(
        "max_tool_success_rate",
        SHARE,
        "Share of good tool calls over two hours at most; leaves out models without any.",
    ),
];

/// Everything that can be called.
pub(crate) static OPERATIONS: [Operation; 52] = [
    generate(Api::Chat, "/chat/completions", "Answers a conversation, in OpenAI's and OpenRouter's grammar."),
    generate(Api::Messages, "/messages", "Answers a conversation, in Anthropic's grammar."),
    generate(Api::Responses, "/responses", "Answers a conversation, in OpenAI's newer grammar."),
    generate(Api::Text, "/completions", "Continues a text."),
    generate(Api::Embeddings, "/embeddings", "Turns texts into vectors."),
    generate(Api::Rerank, "/rerank", "Ranks documents by a query."),
    generate(Api::Images, "/images/generations", "Draws pictures."),
    generate(Api::Images, "/images", "Draws pictures, at OpenRouter's path."),
    generate(Api::Speech, "/audio/speech", "Speaks a text."),
    generate(Api::Transcription, "/audio/transcriptions", "Writes down what is spoken."),
    count(Api::Messages, "/messages/count_tokens"),
    count(Api::Responses, "/responses/input_tokens"),
    get(
        Endpoint::Models,
        "/models",
        Anyone,
        MODEL_FILTERS,
        Json(200, of::<ModelList>),
        "Models that somebody offers.",
    ),
    get(
        Endpoint::ModelCount,
        "/models/count",
        Anyone,
        &[OUTPUT],
        Json(200, of::<Data<ModelCount>>),
        "How many models somebody offers.",
    ),
    get(
        Endpoint::OwnModels,
        "/models/user",
        AnyKey,
        &[PAGE[0], PAGE[1], SORTED, OUTPUT],
        Json(200, of::<ModelList>),
        "Models that the policies of the caller's account and key leave.",
    ),
    get(
        Endpoint::ModelsOf(Kind::Embeddings),
        "/embeddings/models",
        Anyone,
        &PAGE,
        Json(200, of::<ModelList>),
        "Models that make vectors.",
    ),
    get(
        Endpoint::ModelsOf(Kind::Images),
        "/images/models",
        Anyone,
        &PAGE,
        Json(200, of::<ModelList>),
        "Models that make pictures.",
    ),
    get(
        Endpoint::ZdrEndpoints,
        "/endpoints/zdr",
        Anyone,
        &[],
        Json(200, of::<List<Offered>>),
        "Offers whose sellers promise to keep nothing.",
    ),
    get(Endpoint::Providers, "/providers", Anyone, &[], Json(200, of::<List<Provider>>), "Sellers."),
    get(
        Endpoint::ModelEndpoints,
        "/models/{author}/{slug}/endpoints",
        Anyone,
        &[],
        Json(200, of::<Data<ModelEndpoints>>),
        "The offers of a model, and how each fares.",
    ),
    get(
        Endpoint::Model,
        "/models/{model}",
        Anyone,
        &[],
        Json(200, of::<Model>),
        "One model. Its slug may be written with `/` or `%2F`.",
    ),
    get(
        Endpoint::ModelDetails,
        "/model/{author}/{slug}",
        Anyone,
        &[],
        Json(200, of::<Data<Model>>),
        "One model, in OpenRouter's envelope.",
    ),
    get(Endpoint::Key, "/key", AnyKey, &[], Json(200, of::<Data<CurrentKey>>), "The caller's key."),
    get(
        Endpoint::Credits,
        "/credits",
        AnyKey,
        &[],
        Json(200, of::<Data<Credits>>),
        "The credit of the caller's account.",
    ),
    get(
        Endpoint::Activity,
        "/activity",
        AnyKey,
        &[
            Parameter::new("date", DATE, "One completed day; all that are kept when left out."),
            Parameter::new("api_key_hash", NAME, "One key, by its SHA-256."),
            Parameter::new(
                "group_by",
                NAME,
                "Accepted for the field's clients; rows are by day, model and seller.",
            ),
            Parameter::new("user_id", NAME, "Accepted for the field's clients; an account has one user."),
            Parameter::new(
                "workspace_id",
                NAME,
                "Accepted for the field's clients; rows are of the whole account.",
            ),
        ],
        Json(200, of::<List<ActivityItem>>),
        "What the caller's account used on completed days.",
    ),
    get(
        Endpoint::Generation,
        "/generation",
        AnyKey,
        &[Parameter::required("id", NAME, "The generation.")],
        Json(200, of::<Data<GenerationRecord>>),
        "The record of one of the caller's generations.",
    ),
    get(
        Endpoint::Receipt,
        "/receipts/{id}",
        AnyKey,
        &[],
        Object,
        "The signed receipt of one of the caller's generations, with its proofs.",
    ),
    get(
        Endpoint::BestExecution,
        "/reports/best-execution",
        AnyKey,
        &[
            Parameter::new("id", NAME, "One generation."),
            Parameter::new("since", INSTANT, "From this instant or day on, in UTC; a day ago when left out."),
            Parameter::new("until", INSTANT, "Until before this instant or day, in UTC; now when left out."),
            Parameter::new("limit", LIMIT, "Generations that are listed at most; 100 when left out."),
        ],
        Json(200, of::<Data<BestExecution>>),
        "Whether the market chose for the buyer: eligible asks, why this one, what the next would have cost.",
    ),
    change(
        (Endpoint::CreateKey, Verb::Post),
        "/keys",
        Body::Json(of::<KeyCreate>),
        Json(201, of::<KeyCreated>),
        "Makes a key. Its secret is in this answer and nowhere else.",
    ),
    Operation {
        query: &[
            Parameter::new("offset", OFFSET, "Keys to leave out at the beginning."),
            Parameter::new("include_disabled", FLAG, "Whether those that are switched off are listed, too."),
            Parameter::new(
                "workspace_id",
                NAME,
                "Accepted for the field's clients; keys of all workspaces are listed.",
            ),
        ],
        ..change(
            (Endpoint::ListKeys, Verb::Get),
            "/keys",
            Body::None,
            Json(200, of::<List<Key>>),
            "The keys of the caller's account, the oldest first, a hundred at most.",
        )
    },
    limits(Part::Key, "/keys/{hash}/rate-limits", "A key with its limits, and what is left of them."),
    put_rates(Part::Key, "/keys/{hash}/rate-limits", "Sets or lifts the rates of a key."),
    change((Endpoint::GetKey, Verb::Get), "/keys/{hash}", Body::None, Json(200, of::<Data<Key>>), "One key."),
    change(
        (Endpoint::UpdateKey, Verb::Patch),
        "/keys/{hash}",
        Body::Json(of::<KeyUpdate>),
        Json(200, of::<Data<Key>>),
        "Changes a key.",
    ),
    change(
        (Endpoint::DeleteKey, Verb::Delete),
        "/keys/{hash}",
        Body::None,
        Json(200, of::<KeyDeleted>),
        "Ends a key for good.",
    ),
    change(
        (Endpoint::CreateWorkspace, Verb::Post),
        "/workspaces",
        Body::Json(of::<WorkspaceCreate>),
        Json(201, of::<Data<Workspace>>),
        "Makes a workspace: a named part of the caller's organisation, to which keys can belong.",
    ),
    Operation {
        query: &[Parameter::new("offset", OFFSET, "Workspaces to leave out at the beginning.")],
        ..change(
            (Endpoint::ListWorkspaces, Verb::Get),
            "/workspaces",
            Body::None,
            Json(200, of::<List<Workspace>>),
            "The workspaces of the caller's organisation, the oldest first, a hundred at most.",
        )
    },
    change(
        (Endpoint::Budgets, Verb::Get),
        "/workspaces/{id}/budgets",
        Body::None,
        Json(200, of::<List<Budget>>),
        "The budgets of a workspace, and what is left of them.",
    ),
    put_rates(Part::Workspace, "/workspaces/{id}/rate-limits", "Sets or lifts the rates of a workspace."),
    put_budget(
        Part::Workspace,
        "/workspaces/{id}/budgets/{interval}",
        "Sets the budget of a workspace: daily, weekly, monthly or lifetime.",
    ),
    delete_budget(Part::Workspace, "/workspaces/{id}/budgets/{interval}", "Lifts the budget of a workspace."),
    limits(
        Part::Workspace,
        "/workspaces/{id}",
        "A workspace by its id or slug, with what it used, what is in flight, and its limits.",
    ),
    limits(
        Part::Organization,
        "/organization",
        "The caller's organisation, with what it used, what is in flight, and its limits.",
    ),
    put_rates(
        Part::Organization,
        "/organization/rate-limits",
        "Sets or lifts the rates of the whole organisation.",
    ),
    put_budget(
        Part::Organization,
        "/organization/budgets/{interval}",
        "Sets the budget of the whole organisation: daily, weekly, monthly or lifetime.",
    ),
    delete_budget(
        Part::Organization,
        "/organization/budgets/{interval}",
        "Lifts the budget of the whole organisation.",
    ),
    get(
        Endpoint::Checkpoint,
        "/log/checkpoint",
        Anyone,
        &[],
        Object,
        "The newest signed head of the receipts log.",
    ),
    get(
        Endpoint::Figures,
        "/market/figures",
        Anyone,
        &[Parameter::new("date", DATE, "One completed day in UTC; yesterday when left out.")],
        Json(200, of::<MarketFigures>),
        "What was used by who paid, what sellers and market earned, what was given away: sums of one completed day.",
    ),
    get(
        Endpoint::Consistency,
        "/log/consistency",
        Anyone,
        &[Parameter::required("from", TOKENS, "The size of an older head.")],
        Object,
        "Proof that an older head is a prefix of the newest.",
    ),
    root(Endpoint::Description, "/openapi.json", Object, "This description."),
    root(Endpoint::Health, "/health", Json(200, of::<Health>), "Whether the market serves."),
    root(Endpoint::Metrics, "/metrics", Text, "Counters and histograms, as Prometheus text."),
];

/// What the operator's own commands call. Not described: its bodies are between the binary's two ends.
pub(crate) static OPERATOR: Operation = Operation {
    endpoint: Endpoint::Admin,
    verb: Verb::Post,
    base: Base::Root,
    path: "/admin",
    summary: "",
    caller: Caller::Operator,
    query: &[],
    body: Body::None,
    answer: Answer::Object,
};
