"""The stock `openai` client on everything that is not a conversation: text completions, embeddings, images, audio
and the catalogue."""
import base64
import json

import openai

from market import *

client = openai.OpenAI(timeout=WITHIN_S, max_retries=0, _strict_response_validation=True)
# Two answers do not fit the client's own types: packed embeddings, and chunks of a completion before the last.
lenient = openai.OpenAI(timeout=WITHIN_S, max_retries=0)
EMBEDDINGS, IMAGES, SPEECH, TRANSCRIPTIONS = (SOLD[kind] for kind in ("embeddings", "images", "speech", "transcriptions"))
# A wave file of 0.1 s of silence, 8 kHz, 8 bits.
WAVE = b"RIFF" + (836).to_bytes(4, "little") + b"WAVEfmt " + bytes.fromhex("1000000001000100401f0000401f000001000800") \
    + b"data" + (800).to_bytes(4, "little") + b"\x80" * 800


def charged(before, generation):
    """What the books say that a generation cost, which is what the balance lost."""
    record = settled(generation)
    cost = exact(record["total_cost"])
    assert cost > 0 and before - balance() == cost, (before, balance(), record)
    return cost, record


# ---- text completions --------------------------------------------------------------------------------------
@check
def a_stop_string_ends_a_completion():
    raw = client.completions.with_raw_response.create(
        model=LOCAL, prompt="One, two, three, four,", max_tokens=24, stop=["."])
    assert "." not in raw.parse().choices[0].text
    assert_recorded(raw.headers["x-generation-id"], raw.parse().usage)


@check
def a_streamed_completion_equals_the_plain_one():
    arguments = {"model": LOCAL, "prompt": "One, two, three,", "max_tokens": 12, "temperature": 0, "seed": 1}
    plain = client.completions.create(**arguments)
    raw = lenient.completions.with_raw_response.create(stream=True, **arguments)
    chunks = list(raw.parse())
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == plain.choices[0].text
    assert counts(chunks[-1].usage) == counts(plain.usage), (chunks[-1], plain)
    assert_recorded(raw.headers["x-generation-id"], chunks[-1].usage, streamed=True)


# ---- embeddings --------------------------------------------------------------------------------------------
@check
def embeddings_come_as_numbers_either_way():
    """The client asks for base64 by itself and decodes it; asked for floats it must get the same numbers."""
    texts = ["a sailor", "a market"]
    packed = lenient.embeddings.create(model=EMBEDDINGS, input=texts)
    plain = client.embeddings.create(model=EMBEDDINGS, input=texts, encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1], packed
    for one, other in zip(packed.data, plain.data, strict=True):
        assert len(one.embedding) == len(other.embedding) > 1
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding)), "base64 and floats differ"
    assert packed.data[0].embedding != packed.data[1].embedding


@check
def embeddings_are_charged():
    before = balance()
    raw = client.embeddings.with_raw_response.create(
        model=EMBEDDINGS, input="a sailor says hello", encoding_format="float")
    usage = raw.parse().usage
    cost, record = charged(before, raw.headers["x-generation-id"])
    assert exact(usage.cost) == cost and usage.prompt_tokens == usage.total_tokens > 0, usage
    assert record["api_type"] == "embeddings" and record["tokens_prompt"] == usage.prompt_tokens, record


@check
def bad_embeddings_are_told_and_free():
    before = balance()
    error = raised(openai.BadRequestError, lambda: client.embeddings.create(model=EMBEDDINGS, input=[]))
    assert_told(error, "input")
    error = raised(openai.BadRequestError, lambda: client.embeddings.create(model=SHORT["chat"], input="a sailor"))
    assert_told(error, SHORT["chat"])
    assert balance() == before


# ---- images and audio --------------------------------------------------------------------------------------
@check
def an_image_is_made_and_charged():
    before = balance()
    raw = client.images.with_raw_response.generate(model=IMAGES, prompt="a ship", response_format="b64_json")
    answer = raw.parse()
    assert base64.b64decode(answer.data[0].b64_json, validate=True), answer
    _, record = charged(before, raw.headers["x-generation-id"])
    assert record["api_type"] == "image", record


@check
def every_image_is_charged():
    before = balance()
    one = charged(before, client.images.with_raw_response.generate(model=IMAGES, prompt="a ship").headers["x-generation-id"])
    before = balance()
    raw = client.images.with_raw_response.generate(model=IMAGES, prompt="a ship", n=3)
    assert len(raw.parse().data) == 3
    three = charged(before, raw.headers["x-generation-id"])
    assert three[0] == 3 * one[0], (three[0], one[0])


@check
def speech_is_spoken_and_charged():
    before = balance()
    answer = client.audio.speech.create(model=SPEECH, input="Ahoy there, sailor!", voice="alloy", response_format="wav")
    assert answer.read(), "no sound"
    assert answer.response.headers["content-type"].startswith("audio/"), answer.response.headers
    _, record = charged(before, answer.response.headers["x-generation-id"])
    assert record["api_type"] == "tts", record


@check
def speech_can_be_read_as_it_comes():
    with client.audio.speech.with_streaming_response.create(model=SPEECH, input="Ahoy!", voice="alloy") as answer:
        assert sum(len(piece) for piece in answer.iter_bytes()) > 0


@check
def a_recording_is_written_down_and_charged():
    before = balance()
    raw = client.audio.transcriptions.with_raw_response.create(model=TRANSCRIPTIONS, file=("ahoy.wav", WAVE, "audio/wav"))
    assert raw.parse().text.strip()
    _, record = charged(before, raw.headers["x-generation-id"])
    assert record["api_type"] == "stt", record


@check
def a_recording_without_a_file_is_told():
    error = raised(openai.BadRequestError, lambda: client.post(
        "/audio/transcriptions", cast_to=object, body={"model": TRANSCRIPTIONS}))
    assert_told(error, "file")


# ---- the same, streamed ------------------------------------------------------------------------------------
@check
def an_image_is_streamed_with_its_previews():
    before = balance()
    raw = client.images.with_raw_response.generate(model=IMAGES, prompt="a ship", stream=True, partial_images=2)
    events = list(raw.parse())
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds
    assert all(base64.b64decode(event.b64_json, validate=True) for event in events)
    cost, record = charged(before, raw.headers["x-generation-id"])
    assert exact(events[-1].usage.cost) == cost and record["streamed"] is True, (events[-1].usage, record)
    assert events[-1].usage.output_tokens > 0, events[-1].usage


@check
def the_usages_of_several_streamed_images_add_up():
    before = balance()
    raw = client.images.with_raw_response.generate(model=IMAGES, prompt="a ship", stream=True, partial_images=1, n=2)
    events = list(raw.parse())
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] + ["image_generation.completed"] * 2, kinds
    cost, record = charged(before, raw.headers["x-generation-id"])
    usages = [event.usage for event in events[1:]]
    assert sum(exact(usage.cost) for usage in usages) == cost, (usages, record)
    assert sum(usage.output_tokens for usage in usages) == record["tokens_completion"], (usages, record)


@check
def a_transcript_is_streamed():
    before = balance()
    raw = client.audio.transcriptions.with_raw_response.create(
        model=TRANSCRIPTIONS, file=("ahoy.wav", WAVE, "audio/wav"), stream=True)
    events = list(raw.parse())
    assert events[-1].type == "transcript.text.done" and events[-1].text.strip(), events
    assert "".join(event.delta for event in events[:-1]) == events[-1].text, events
    assert len(events) > 2, "it came in pieces"
    cost, record = charged(before, raw.headers["x-generation-id"])
    assert exact(events[-1].usage.cost) == cost and record["streamed"] is True, (events[-1].usage, record)


@check
def speech_is_streamed_as_events():
    before = balance()
    with client.audio.speech.with_streaming_response.create(
            model=SPEECH, input="Ahoy there, sailor!", voice="alloy", stream_format="sse") as answer:
        data = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
        generation = answer.headers["x-generation-id"]
    assert data[-1] == "[DONE]", data[-1]
    events = [json.loads(line) for line in data[:-1]]
    assert all(base64.b64decode(event["audio"], validate=True) for event in events[:-1]) and len(events) > 2
    cost, record = charged(before, generation)
    assert events[-1]["type"] == "speech.audio.done" and exact(events[-1]["usage"]["cost"]) == cost, events[-1]
    assert record["api_type"] == "tts" and record["streamed"] is True, record


@check
def what_cannot_be_streamed_is_told():
    error = raised(openai.BadRequestError, lambda: client.embeddings.create(
        model=EMBEDDINGS, input="x", extra_body={"stream": True}))
    assert_told(error, "stream")
    error = raised(openai.BadRequestError, lambda: client.audio.transcriptions.create(
        model=TRANSCRIPTIONS, file=("ahoy.wav", WAVE, "audio/wav"), stream=True, response_format="srt"))
    assert_told(error, "response_format")


# ---- the catalogue -----------------------------------------------------------------------------------------
@check
def models_are_listed():
    listed = {model.id for model in client.models.list()}
    expected = {LOCAL, SHARED, EMBEDDINGS, IMAGES, SPEECH, TRANSCRIPTIONS, *SHORT.values(), *LONG.values()}
    assert expected <= listed, expected - listed


@check
def one_model_is_found_by_its_slug():
    found = client.models.retrieve(LOCAL)
    assert (found.id, found.object) == (LOCAL, "model"), found


@check
def a_model_that_nobody_sells_is_told():
    assert_told(raised(openai.NotFoundError, lambda: client.models.retrieve("no/such-model")), "no/such-model")
