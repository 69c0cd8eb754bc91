//! What each kind of provider usually does: what is assumed where a `[[provider]]` is silent.
//!
//! Taken from the vendors' references and the servers' own lists of parameters (OpenAI, Anthropic, Google, OpenRouter,
//! vLLM, llama.cpp, Ollama). An assumption is soft: a parameter that an offer is not known to support sends a request
//! elsewhere as long as somebody else has it, and `require_parameters` makes it hard.

use bourse_market::{Operations, Supports};

/// The usual ways of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The word for it in the configuration.
    pub word: &'static str,
    /// Where its API is; none where every provider of the kind has another address.
    pub base_url: Option<&'static str>,
    /// What its models can do.
    pub supports: Supports,
    /// Which kinds of requests they serve.
    pub operations: Operations,
    /// Whether a call may name the service tier.
    pub takes_tier: bool,
}

const CHAT: Operations = Operations::CHAT;
const CHAT_AND_TEXT: Operations = CHAT.with(Operations::TEXT);

/// All that a hosted chat API can do and shows: hidden reasoning is declared, never assumed.
const ALL: Supports = Supports::ALL.without(Supports::HIDDEN_REASONING);
/// What engines sample by and OpenAI does not.
const ENGINE_SAMPLING: Supports =
    Supports::TOP_K.with(Supports::MIN_P).with(Supports::REPETITION_PENALTY).with(Supports::TOP_A);

const fn kind(word: &'static str, base_url: Option<&'static str>, supports: Supports) -> Kind {
    Kind { word, base_url, supports, operations: CHAT_AND_TEXT, takes_tier: false }
}

/// All kinds, in the order in which they are explained.
pub const KINDS: [Kind; 8] = [
    Kind {
        takes_tier: true,
        ..kind("openai", Some("https://api.openai.com/v1"), ALL.without(ENGINE_SAMPLING))
    },
    kind("openai-compatible", None, ALL),
    Kind { takes_tier: true, ..kind("openrouter", Some("https://openrouter.ai/api/v1"), ALL) },
    kind("vllm", Some("http://127.0.0.1:8000/v1"), ALL.without(Supports::VERBOSITY.with(Supports::TOP_A))),
    kind(
        "llama.cpp",
        Some("http://127.0.0.1:8080/v1"),
        ALL.without(Supports::VERBOSITY.with(Supports::TOP_A).with(Supports::CHOICES)),
    ),
    Kind {
        operations: CHAT,
        ..kind(
            "ollama",
            Some("http://127.0.0.1:11434"),
            ALL.without(Supports::VERBOSITY.with(Supports::TOP_A).with(Supports::CHOICES))
                .without(Supports::LOGPROBS.with(Supports::LOGIT_BIAS).with(Supports::PARALLEL_TOOLS)),
        )
    },
    // Its thoughts are billed in full and shown as summaries at most.
    Kind {
        operations: CHAT,
        ..kind(
            "gemini",
            Some("https://generativelanguage.googleapis.com/v1beta"),
            Supports::ALL
                .without(Supports::MIN_P.with(Supports::REPETITION_PENALTY).with(Supports::TOP_A))
                .without(Supports::LOGIT_BIAS.with(Supports::VERBOSITY).with(Supports::PARALLEL_TOOLS)),
        )
    },
    Kind {
        operations: CHAT,
        ..kind(
            "anthropic",
            Some("https://api.anthropic.com/v1"),
            Supports::TOOLS
                .with(Supports::PARALLEL_TOOLS)
                .with(Supports::RESPONSE_FORMAT)
                .with(Supports::STRUCTURED_OUTPUTS)
                .with(Supports::TOP_K)
                .with(Supports::REASONING)
                .with(Supports::MEDIA),
        )
    },
];

/// The kind of that word.
pub fn of_word(word: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.word == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_the_gateway_speaks_has_its_ways() {
        let words: Vec<&str> = KINDS.iter().map(|kind| kind.word).collect();
        assert_eq!(words, bourse_gateway::adapter::kinds().collect::<Vec<_>>());
        assert_eq!(of_word("OpenAI"), None);
    }

    #[test]
    fn what_a_kind_lacks_is_what_its_api_lacks() {
        let check = |word: &str, lacks: &str| {
            let kind = of_word(word).unwrap();
            assert_eq!(Supports::ALL.without(kind.supports).to_string(), lacks, "{word}");
        };
        check("openai", "top_k, min_p, repetition_penalty, hidden_reasoning, top_a");
        check("openai-compatible", "hidden_reasoning");
        check("vllm", "hidden_reasoning, verbosity, top_a");
        check("llama.cpp", "n, hidden_reasoning, verbosity, top_a");
        check("ollama", "logprobs, n, logit_bias, hidden_reasoning, parallel_tool_calls, verbosity, top_a");
        check("gemini", "logit_bias, min_p, repetition_penalty, parallel_tool_calls, verbosity, top_a");
        check(
            "anthropic",
            "logprobs, n, seed, logit_bias, penalties, min_p, repetition_penalty, hidden_reasoning, verbosity, top_a",
        );
    }
}
