"""Completions from a server on loopback that runs our own model."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from prefsim import losses
from prefsim.lm import ServedModel, draw_scored, scored_completions, trainer
from prefsim.loops import play_rounds

PROMPTS = ["Was it good?", "Was it a long film?"]


class Server:
    """Answers ``/v1/completions`` with draws of a policy, once what it ``said`` is used up."""

    def __init__(self, policy, *, returns_ids=True):
        self.policy, self.returns_ids = policy, returns_ids
        self.said, self.asked, self.keys = [], [], []
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.asked.append(request)
                    server.keys.append(self.headers.get("Authorization"))
                    status, body = server.answer(self.path, request)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, path, request):
        if self.said:
            status, body = self.said.pop(0)
            return status, body.encode()
        if path != "/v1/completions" or request["model"] != "tiny":
            return 404, b"no such model"
        (drawn,) = self.policy.sample(
            [request["prompt"]],
            request["n"],
            request["seed"],
            max_new_tokens=request["max_tokens"],
            temperature=request["temperature"],
            top_p=request["top_p"],
        )
        choices = []
        for index, ids in enumerate(drawn):
            ended = ids[-1] in self.policy.end_ids
            kept = ids[:-1] if ended else ids
            choice = {
                "index": index,
                "text": self.policy.tokenizer.decode(kept),
                "finish_reason": "stop" if ended else "length",
            }
            choices.append(choice | ({"token_ids": kept} if self.returns_ids else {}))
        return 200, json.dumps({"choices": choices[::-1]}).encode()


@pytest.fixture
def serve(llama):
    running = []

    def started(**options):
        running.append(Server(llama, **options))
        return running[-1]

    yield started
    for each in running:
        each.http.shutdown()
        each.http.server_close()


def served(server, llama, **options):
    return ServedModel(server.url, "tiny", llama.tokenizer, **{"retries": 0} | options)


def ids_of(llama):
    return [row.prompt_ids for row in llama.encode(PROMPTS, [[0]] * 2)]


def test_the_draws_are_those_of_the_model(serve, llama):
    server = serve()
    found = served(server, llama, workers=1).sample(
        ids_of(llama), 5, 3, max_new_tokens=6, temperature=1.5
    )
    assert [len(row) for row in found] == [5, 5]
    seeds = np.random.default_rng(3).integers(2**31, size=2)
    for ids, seed, row, request in zip(ids_of(llama), seeds, found, server.asked, strict=True):
        (expected,) = llama.sample([ids], 5, int(seed), max_new_tokens=6, temperature=1.5)
        assert row == expected
        assert request["prompt"] == ids and request["seed"] == seed
    assert found != served(server, llama).sample(ids_of(llama), 5, 4, max_new_tokens=6)


def test_text_is_read_where_no_ids_come_back(serve, llama):
    server = serve(returns_ids=False)
    found = served(server, llama).sample(ids_of(llama), 4, 0, max_new_tokens=4)
    with_ids = served(serve(), llama).sample(ids_of(llama), 4, 0, max_new_tokens=4)
    for row, expected in zip(found, with_ids, strict=True):
        for ids, other in zip(row, expected, strict=True):
            assert llama.decode(ids) == llama.decode(other)
            assert (ids[-1] in llama.end_ids) == (other[-1] in llama.end_ids)


def test_rounds_learn_from_what_a_server_draws(serve, llama):
    sample = served(serve(), llama).sample

    def length(prompt, completion):
        return -float(len(completion))

    scored = scored_completions(
        llama, length, PROMPTS, n_samples=3, seed=0, sample=sample, max_new_tokens=5
    )
    assert scored.completions.shape == (2, 3)
    for prompt, row, logps in zip(PROMPTS, scored.completions, scored.logp, strict=True):
        expected = llama.log_prob([prompt] * 3, list(row))
        np.testing.assert_allclose(logps.sum(axis=-1), expected, rtol=1e-5)
    draw = draw_scored(PROMPTS, length, n_samples=4, sample=sample, max_new_tokens=5)
    train = trainer(steps=1, batch_size=2, learning_rate=1e-2)
    (played,) = play_rounds(
        llama, draw, losses.rloo, rounds=1, seed=0, reference=llama, train=train
    )
    assert np.isfinite(played.pairs.scores).all()


def test_a_busy_server_is_asked_again(serve, llama, monkeypatch):
    waited = []
    monkeypatch.setattr("prefsim.lm.online.served.time.sleep", waited.append)
    server = serve()
    server.said = [(503, "loading"), (429, "slow down")]
    (row,) = served(server, llama, retries=2, api_key="secret").sample(
        [[5]], 2, 0, max_new_tokens=2
    )
    assert len(row) == 2 and waited == [0.5, 1.0]
    assert server.keys == ["Bearer secret"] * 3
    server.said = [(503, "loading")] * 3
    with pytest.raises(ConnectionError, match=r"answered 503: loading, 2 times"):
        served(server, llama, retries=1).sample([[5]], 1, 0)


def choices(*given):
    return 200, json.dumps({"choices": list(given)})


ONE = {"index": 0, "text": "a", "token_ids": [7], "finish_reason": "length"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ((400, "prompt too long"), "answered 400: prompt too long"),
        ((200, "<html>"), "answered no JSON: <html>"),
        ((200, "[1]"), "answered what is no list of choices"),
        ((200, '{"error": "gone"}'), "answered what is no list of choices"),
        (choices(ONE, ONE), "was asked for 1 completions and gave 2"),
        (choices(ONE | {"token_ids": []}), "gave a completion without a token"),
        (choices({"text": "a"}), "answered what is no list of choices"),
    ],
)
def test_what_a_server_says_wrongly_is_named(serve, llama, said, message):
    server = serve()
    server.said = [said]
    with pytest.raises(ValueError, match=message):
        served(server, llama).sample([[5]], 1, 0)


def test_no_server_and_options_out_of_range(llama):
    model = ServedModel("http://127.0.0.1:9/v1", "tiny", llama.tokenizer, api_key="s", retries=0)
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9/v1/completions cannot be reached"):
        model.sample([[5]], 1, 0)
    assert "tokenizer" not in repr(model) and "'s'" not in repr(model)
    with pytest.raises(ValueError, match="temperature must be"):
        model.sample([[5]], 1, 0, temperature=0.0)
    with pytest.raises(ValueError, match="retries must be an integer >= 0"):
        ServedModel("http://x", "tiny", None, retries=-1)


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ([[[5], [6]]], r"2 completions of each of 2 prompts, got \[2\]"),
        ([[[5], [6]], [[7]]], r"got \[2, 1\]"),
        ([[[5], []], [[6], [7]]], "at least one token, got an empty one"),
    ],
)
def test_what_stands_in_must_give_what_was_asked(llama, drawn, message):
    with pytest.raises(ValueError, match=message):
        scored_completions(
            llama,
            lambda prompt, answer: 0.0,
            PROMPTS,
            n_samples=2,
            seed=0,
            sample=lambda *_, **__: drawn,
        )
