/* Drives llama.cpp through its C API, for the comparison in run.py.
 *
 *   llama_bench LIBRARIES quantize IN OUT         requantise to Q8_0
 *   llama_bench LIBRARIES bench MODEL             tokens per CPU-second of one thread, as one line of JSON
 *   llama_bench LIBRARIES tokenize MODEL TEXT     token ids, one a line
 *   llama_bench LIBRARIES logits MODEL IDS OUT    logits of each position, decoded one by one, 32-bit floats
 *
 * The declarations below are those of llama.h 0.5 and 0.6. They are written out because the prebuilt package
 * has no header; `check_layout` holds them against the library's own defaults before anything is called with
 * them, so that another version stops with a message instead of a crash.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct llama_model_params {
    void *devices;
    const void *tensor_buft_overrides;
    int32_t n_gpu_layers;
    int32_t split_mode, load_mode, lazy_mode;
    int32_t main_gpu;
    const float *tensor_split;
    void *progress_callback;
    void *progress_callback_user_data;
    const void *kv_overrides;
    bool vocab_only, check_tensors, use_extra_bufts, no_host, no_alloc, load_mtp;
};

struct llama_context_params {
    uint32_t n_ctx, n_batch, n_ubatch, n_seq_max, n_rs_seq, n_outputs_max, n_outputs_max_per_seq;
    int32_t n_threads, n_threads_batch;
    int32_t ctx_type, rope_scaling_type, pooling_type, attention_type, flash_attn_type;
    float rope_freq_base, rope_freq_scale, yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
    uint32_t yarn_orig_ctx;
    float defrag_thold;
    void *cb_eval, *cb_eval_user_data;
    int32_t type_k, type_v;
    void *abort_callback, *abort_callback_data;
    bool embeddings, offload_kqv, no_perf, op_offload, swa_full, kv_unified;
    void *samplers;
    size_t n_samplers;
    void *ctx_other;
};

struct llama_model_quantize_params {
    int32_t nthread, ftype, output_tensor_type, token_embedding_type;
    bool allow_requantize, quantize_output_tensor, only_copy, pure, keep_split, dry_run;
    const void *imatrix, *kv_overrides, *tt_overrides;
    const int32_t *prune_layers;
    size_t max_buf_size;
};

struct llama_batch {
    int32_t n_tokens;
    int32_t *token;
    float *embd;
    int32_t *pos;
    int32_t *n_seq_id;
    int32_t **seq_id;
    int8_t *logits;
};

struct llama_model;
struct llama_context;
struct llama_vocab;

void ggml_backend_load_all_from_path(const char *directory);
void llama_backend_init(void);
void llama_log_set(void (*callback)(int, const char *, void *), void *data);
struct llama_model_params llama_model_default_params(void);
struct llama_context_params llama_context_default_params(void);
struct llama_model_quantize_params llama_model_quantize_default_params(void);
uint32_t llama_model_quantize(const char *in, const char *out, const struct llama_model_quantize_params *params);
struct llama_model *llama_model_load_from_file(const char *path, struct llama_model_params params);
struct llama_context *llama_init_from_model(struct llama_model *model, struct llama_context_params params);
const struct llama_vocab *llama_model_get_vocab(const struct llama_model *model);
int32_t llama_vocab_n_tokens(const struct llama_vocab *vocab);
int32_t llama_tokenize(const struct llama_vocab *vocab, const char *text, int32_t length, int32_t *tokens,
                       int32_t tokens_max, bool add_special, bool parse_special);
struct llama_batch llama_batch_init(int32_t tokens, int32_t embd, int32_t sequences_max);
int32_t llama_decode(struct llama_context *context, struct llama_batch batch);
float *llama_get_logits_ith(struct llama_context *context, int32_t i);
void *llama_get_memory(const struct llama_context *context);
void llama_memory_clear(void *memory, bool data);

enum { TYPE_F16 = 1, FTYPE_Q8_0 = 7, PROMPT = 512, ANSWER = 128, BATCH_ANSWER = 32, TEXT_MAX = 1 << 16 };

static void fail(const char *message) {
    fprintf(stderr, "llama_bench: %s\n", message);
    exit(1);
}

static void errors_only(int level, const char *text, void *data) {
    (void)data;
    if (level == 4) fputs(text, stderr);
}

static void check_layout(void) {
    struct llama_model_params model = llama_model_default_params();
    struct llama_context_params context = llama_context_default_params();
    struct llama_model_quantize_params quantize = llama_model_quantize_default_params();
    bool good = model.n_gpu_layers == -1 && model.split_mode == 1 && model.use_extra_bufts && !model.vocab_only
        && context.n_ctx == 512 && context.n_batch == 2048 && context.n_ubatch == 512 && context.n_seq_max == 1
        && context.yarn_ext_factor == -1.0f && context.defrag_thold == -1.0f && context.type_k == TYPE_F16
        && context.type_v == TYPE_F16 && !context.embeddings && context.offload_kqv && !context.kv_unified
        && context.ctx_other == NULL && quantize.ftype == FTYPE_Q8_0 && quantize.quantize_output_tensor
        && !quantize.allow_requantize && quantize.imatrix == NULL;
    if (!good) fail("this llama.cpp lays out its parameters differently from 0.5 and 0.6");
}

static double cpu_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static struct llama_model *load(const char *path) {
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    struct llama_model *model = llama_model_load_from_file(path, params);
    if (!model) fail("the model cannot be loaded");
    return model;
}

static struct llama_context *context(struct llama_model *model, uint32_t tokens, uint32_t sequences) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = tokens;
    params.n_batch = PROMPT;
    params.n_ubatch = PROMPT;
    params.n_seq_max = sequences;
    params.n_outputs_max_per_seq = 1;
    params.n_threads = params.n_threads_batch = 1;
    struct llama_context *made = llama_init_from_model(model, params);
    if (!made) fail("no context");
    return made;
}

static void put(struct llama_batch *batch, int32_t token, int32_t position, int32_t sequence, bool wanted) {
    int32_t at = batch->n_tokens++;
    batch->token[at] = token;
    batch->pos[at] = position;
    batch->n_seq_id[at] = 1;
    batch->seq_id[at][0] = sequence;
    batch->logits[at] = wanted;
}

static int32_t largest(const float *logits, int32_t count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static double prompt(struct llama_model *model, int32_t vocab) {
    struct llama_context *ctx = context(model, PROMPT + 32, 1);
    struct llama_batch batch = llama_batch_init(PROMPT, 0, 1);
    double start = 0;
    for (int round = 0; round < 2; round++) {
        /* The first round, of a few tokens, warms up. */
        int32_t count = round ? PROMPT : 8;
        llama_memory_clear(llama_get_memory(ctx), true);
        batch.n_tokens = 0;
        for (int32_t i = 0; i < count; i++) put(&batch, (int32_t)((i * 7919 + 13) % vocab), i, 0, i == count - 1);
        start = cpu_seconds();
        if (llama_decode(ctx, batch)) fail("decode");
        largest(llama_get_logits_ith(ctx, count - 1), vocab);
    }
    return PROMPT / (cpu_seconds() - start);
}

static double decode(struct llama_model *model, int32_t vocab, int32_t sequences, int32_t steps) {
    struct llama_context *ctx = context(model, (uint32_t)(sequences * 256), (uint32_t)sequences);
    struct llama_batch batch = llama_batch_init(sequences, 0, 1);
    int32_t tokens[32];
    for (int32_t s = 0; s < sequences; s++) tokens[s] = 13 + s * 7;
    double start = 0;
    for (int32_t step = -2; step < steps; step++) {
        if (step == 0) start = cpu_seconds();
        batch.n_tokens = 0;
        for (int32_t s = 0; s < sequences; s++) put(&batch, tokens[s], step + 2, s, true);
        if (llama_decode(ctx, batch)) fail("decode");
        for (int32_t s = 0; s < sequences; s++) tokens[s] = largest(llama_get_logits_ith(ctx, s), vocab);
    }
    return (double)sequences * steps / (cpu_seconds() - start);
}

static void bench(const char *path) {
    struct llama_model *model = load(path);
    int32_t vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    double p = prompt(model, vocab), one = decode(model, vocab, 1, ANSWER);
    double eight = decode(model, vocab, 8, BATCH_ANSWER), many = decode(model, vocab, 32, BATCH_ANSWER);
    printf("{\"engine\": \"llama.cpp\", \"prompt_512\": %f, \"decode_1\": %f, \"decode_8\": %f, \"decode_32\": %f}\n",
           p, one, eight, many);
}

static void tokenize(const char *path, const char *text) {
    static int32_t tokens[TEXT_MAX];
    struct llama_model *model = load(path);
    int32_t count = llama_tokenize(llama_model_get_vocab(model), text, (int32_t)strlen(text), tokens, TEXT_MAX, false, true);
    if (count < 0) fail("the text is too long");
    for (int32_t i = 0; i < count; i++) printf("%d\n", tokens[i]);
}

static void logits(const char *path, const char *ids, const char *out) {
    struct llama_model *model = load(path);
    int32_t vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    FILE *in = fopen(ids, "r"), *to = fopen(out, "wb");
    if (!in || !to) fail("cannot open the token or logit file");
    struct llama_context *ctx = context(model, 4096, 1);
    struct llama_batch batch = llama_batch_init(1, 0, 1);
    int32_t token;
    for (int32_t position = 0; fscanf(in, "%d", &token) == 1; position++) {
        batch.n_tokens = 0;
        put(&batch, token, position, 0, true);
        if (llama_decode(ctx, batch)) fail("decode");
        if (fwrite(llama_get_logits_ith(ctx, 0), sizeof(float), (size_t)vocab, to) != (size_t)vocab) fail("write");
    }
    fclose(in);
    if (fclose(to)) fail("write");
}

static void quantize(const char *in, const char *out) {
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = FTYPE_Q8_0;
    params.allow_requantize = true;
    if (llama_model_quantize(in, out, &params)) fail("the model cannot be requantised");
}

int main(int count, char **arguments) {
    if (count < 4) fail("see the head of the source for the arguments");
    llama_log_set(errors_only, NULL);
    ggml_backend_load_all_from_path(arguments[1]);
    llama_backend_init();
    check_layout();
    const char *what = arguments[2];
    if (!strcmp(what, "bench")) bench(arguments[3]);
    else if (!strcmp(what, "quantize") && count == 5) quantize(arguments[3], arguments[4]);
    else if (!strcmp(what, "tokenize") && count == 5) tokenize(arguments[3], arguments[4]);
    else if (!strcmp(what, "logits") && count == 6) logits(arguments[3], arguments[4], arguments[5]);
    else fail("see the head of the source for the arguments");
    return 0;
}
