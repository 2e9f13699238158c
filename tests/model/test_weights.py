"""Weights: which files are found and accepted, which are refused, and that none runs code."""

from __future__ import annotations

import builtins
import pickle
import re
from urllib.error import HTTPError, URLError

import pytest
import torch
from safetensors.torch import save_file
from support import TINY, write_run
from torch import nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from unisal.config import find_weights, save_json
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.layers import Context
from unisal.model.mobilenet_v2 import MobileNetV2
from unisal.model.weights import from_torchvision, load_encoder, load_state, read_state
from unisal.predict.loading import load_model


def network(seed=0, width=4):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 1, 1))


def assert_states_equal(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def copy_of(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def save_plain(state, path):
    torch.save(state, path)


def save_old_format(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_checkpoint(state, path):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9).state_dict()
    torch.save({"epoch": 3, "model_state_dict": state, "optimizer": optimizer}, path)


def save_safetensors(state, path):
    save_file(dict(state), path)


KINDS = {
    "plain.pth": save_plain,
    "old.pth": save_old_format,
    "checkpoint.pth": save_checkpoint,
    "weights.safetensors": save_safetensors,
}


# ---- reading ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_accepted_kind_gives_every_number_back(tmp_path, kind):
    origin, other = network(0), network(1)
    KINDS[kind](origin.state_dict(), tmp_path / kind)
    state = read_state(tmp_path / kind)
    assert {k: v.dtype for k, v in state.items()} == {
        k: v.dtype for k, v in origin.state_dict().items()
    }
    load_state(other, state, kind)
    assert_states_equal(other.state_dict(), origin.state_dict())


class RunsCode:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return builtins.open, (self.path, "w")


def malicious(folder, trace):
    """Write files of every kind that try to create `trace`; return their paths."""
    evil = RunsCode(trace)
    torch.save({**network().state_dict(), "x": evil}, folder / "plain.pth")
    save_old_format({"x": evil}, folder / "old.pth")
    torch.save({"model_state_dict": network().state_dict(), "x": evil}, folder / "checkpoint.pth")
    for protocol in (0, 2, 4):
        (folder / f"pickle{protocol}.pth").write_bytes(pickle.dumps(evil, protocol))
    (folder / "pickle.safetensors").write_bytes(pickle.dumps(evil))
    return sorted(folder.iterdir())


def test_a_malicious_file_is_refused_and_its_code_is_not_run(tmp_path, monkeypatch, recwarn):
    (tmp_path / "files").mkdir()
    trace = tmp_path / "trace"
    paths = malicious(tmp_path / "files", trace)
    torch.load(paths[0], weights_only=False)
    assert trace.exists()  # the code is real
    trace.unlink()
    recwarn.clear()
    for path in paths:
        with pytest.raises(UserError) as refused:
            read_state(path)
        monkeypatch.setenv("UNISAL_ENCODER_WEIGHTS", str(path))
        with pytest.raises(UserError, match=re.escape(str(path))):
            load_encoder(network())
        assert str(path) in str(refused.value)
        # PyTorch's own message tells how to run the code after all.
        assert "weights_only" not in str(refused.value)
        assert not trace.exists(), path
    assert not recwarn.list  # nothing but the error is said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused(tmp_path, kind, part):
    path = tmp_path / kind
    KINDS[kind](network(width=40).state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part) if part >= 0 else -1])
    with pytest.raises(UserError) as refused:
        read_state(path)
    assert str(refused.value).startswith(f"{path} cannot be read as weights: ")
    assert len(str(refused.value).splitlines()) == 1
    assert not str(refused.value).endswith(": ")


NOT_WEIGHTS = {
    "text": b"hello\n",
    "web page": b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n",
    "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "zip": b"PK\x05\x06" + bytes(18),
    "json": b'{"weight": [1, 2]}',
}


@pytest.mark.parametrize("content", NOT_WEIGHTS.values(), ids=NOT_WEIGHTS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_state(path)
    assert str(refused.value).startswith(f"{path} cannot be read as weights: ")
    assert "weights_only" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds no weights; expected a state dict"),
        (torch.zeros(2), "holds no weights; expected a state dict"),
        (None, "holds no weights"),
        ({}, "holds no weights"),
        ({"model_state_dict": {}}, "holds no weights"),
        ({"model_state_dict": [torch.zeros(2)]}, "holds no weights"),
        ({"w": torch.zeros(2), "epoch": 3}, "is no state dict: epoch "),
        ({"state_dict": {"w": torch.zeros(2)}, "epoch": 3}, "is no state dict: state_dict, epoch "),
        ({"model_state_dict": {"w": torch.zeros(2), "n": 1.5}}, "is no state dict: n "),
        ({"w": None}, "is no state dict: w "),
        ({7: torch.zeros(2)}, "is no state dict: 7 "),
        ({7: 8}, "is no state dict: 7 "),
        (dict.fromkeys("abcdefgh", 1), "is no state dict: a, b, c, d, e and 3 more "),
    ],
    ids=repr,
)
def test_a_file_of_something_else_is_refused_by_what_it_holds(tmp_path, content, message):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(UserError) as refused:
        read_state(path)
    assert str(refused.value).startswith(f"{path} {message}")


def test_a_whole_network_object_is_refused(tmp_path):
    torch.save(network(), tmp_path / "object.pth")
    with pytest.raises(UserError, match=r"object\.pth cannot be read as weights") as refused:
        read_state(tmp_path / "object.pth")
    assert "weights_only" not in str(refused.value)


@pytest.mark.parametrize("name", ["missing.pth", "missing.safetensors", "folder.pth"])
def test_a_missing_file_is_named(tmp_path, name):
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(UserError) as refused:
        read_state(tmp_path / name)
    assert str(refused.value) == f"weights file {tmp_path / name} does not exist"


# ---- strictness ---------------------------------------------------------------------------


def without(*keys):
    return lambda state: [state.pop(key) for key in keys]


def added(*keys):
    return lambda state: state.update({key: torch.ones(1) for key in keys})


def shaped(key, *shape):
    return lambda state: state.update({key: torch.ones(shape)})


MISMATCHES = {
    "missing": ([without("0.bias")], ["1 missing: 0.bias"]),
    "missing buffer": ([without("1.num_batches_tracked")], ["1 missing: 1.num_batches_tracked"]),
    "unexpected": ([added("3.weight")], ["1 unexpected: 3.weight"]),
    "wrongly shaped": (
        [shaped("2.weight", 1, 4, 3, 3)],
        ["1 wrongly shaped: 2.weight is [1, 4, 3, 3], expected [1, 4, 1, 1]"],
    ),
    "same number of values": (
        [shaped("1.bias", 2, 2)],
        ["1 wrongly shaped: 1.bias is [2, 2], expected [4]"],
    ),
    "scalar": (
        [shaped("1.num_batches_tracked", 1)],
        ["1 wrongly shaped: 1.num_batches_tracked is [1], expected []"],
    ),
    "all at once": (
        [without("0.bias", "1.bias"), added("new", "newer"), shaped("0.weight", 4, 3, 3)],
        [
            "2 missing: 0.bias, 1.bias; 2 unexpected: new, newer; "
            "1 wrongly shaped: 0.weight is [4, 3, 3], expected [4, 3, 3, 3]"
        ],
    ),
    "many": ([added(*"abcdefg")], ["7 unexpected: a, b, c, d, e and 2 more"]),
}


@pytest.mark.parametrize(("changes", "words"), MISMATCHES.values(), ids=MISMATCHES)
@pytest.mark.parametrize("kind", ["plain.pth", "weights.safetensors"])
def test_a_mismatch_names_the_file_and_the_keys_and_changes_nothing(tmp_path, kind, changes, words):
    state = copy_of(network(1))
    for change in changes:
        change(state)
    KINDS[kind](state, tmp_path / kind)
    net = network(0)
    before = copy_of(net)
    with pytest.raises(UserError) as refused:
        load_state(net, read_state(tmp_path / kind), str(tmp_path / kind))
    expected = f"{tmp_path / kind} does not fit this network: {'; '.join(words)}"
    if kind == "weights.safetensors":  # which keeps no order
        assert sorted(re.findall(r"\w+", str(refused.value))) == sorted(
            re.findall(r"\w+", expected)
        )
    else:
        assert str(refused.value) == expected
    assert_states_equal(net.state_dict(), before)


def test_the_weights_of_another_configuration_are_refused():
    net = UNISAL(**TINY)
    state = UNISAL(**{**TINY, "rnn_hidden_channels": 8, "sources": ("SALICON", "UCFSports")})
    with pytest.raises(UserError, match=r"mine\.pth.*missing: .*coarse_gaussians_dhf1k") as refused:
        load_state(net, state.state_dict(), "mine.pth")
    assert re.search(
        r"wrongly shaped: rnn\S+ is \[8, 1, 1\], expected \[16, 1, 1\]", str(refused.value)
    )


def test_loading_copies_the_numbers():
    origin, net = network(1), network(0)
    load_state(net, origin.state_dict(), "here")
    expected = copy_of(net)
    nn.init.zeros_(origin[0].weight)
    assert_states_equal(net.state_dict(), expected)


# ---- finding ------------------------------------------------------------------------------
OURS, OFFICIAL, BEST, SAFE = (
    "ft_mit1003.pth",
    "weights_ft_mit1003.pth",
    "weights_best.pth",
    "weights_best.safetensors",
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the folder of the run `mine`, empty."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("fine_tuned", "order"), [(False, [BEST, SAFE]), (True, [OURS, OFFICIAL, BEST, SAFE])]
)
def test_weights_are_found_in_their_order(run, fine_tuned, order):
    for name in (OURS, OFFICIAL, BEST, SAFE, ".weights_best-x1y2.pth", "checkpoint.pth"):
        (run / name).touch()
    for name in order:
        assert find_weights("mine", fine_tuned) == run / name
        (run / name).unlink()
        (run / name).mkdir()  # a folder is no weights file
    with pytest.raises(UserError) as refused:
        find_weights("mine", fine_tuned)
    assert str(refused.value) == f"{run} has no weights; looked for {', '.join(order)}"


def test_fine_tuned_weights_are_found_only_when_asked_for(run):
    for name in (OURS, OFFICIAL):
        (run / name).touch()
    with pytest.raises(UserError, match="mine has no weights"):
        find_weights("mine")


def test_no_name_means_the_shipped_run_and_an_unknown_one_is_refused(run):
    shipped = run.parent / "pretrained_unisal"
    shipped.mkdir()
    (shipped / BEST).touch()
    assert find_weights(None) == shipped / BEST
    with pytest.raises(UserError, match=r"'other'.*there are: mine, pretrained_unisal"):
        find_weights("other")


# ---- the encoder --------------------------------------------------------------------------


def torchvisions(width):
    """Return torchvision's network with random numbers everywhere."""
    torch.manual_seed(0)
    net = mobilenet_v2(weights=None, width_mult=width, round_nearest=1).eval()
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif key.endswith("num_batches_tracked"):
                value.add_(7)
            elif value.ndim == 1:
                value.add_(0.1 * torch.randn(value.shape))
    return net


@pytest.fixture(scope="module")
def theirs():
    """Return a narrow one, for speed."""
    return torchvisions(0.25)


@pytest.fixture(scope="module")
def full():
    """Return one of the published size."""
    return torchvisions(1.0)


@pytest.fixture
def fetched(monkeypatch):
    """Put something in the place of torchvision's download; return how it was called."""
    calls = []

    def put(result):
        def get_state_dict(_self, *_args, **options):
            calls.append(options)
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(MobileNet_V2_Weights, "get_state_dict", get_state_dict)
        return calls

    return put


def encoder(width=0.25):
    torch.manual_seed(1)
    return MobileNetV2(width)


@torch.no_grad()
def test_torchvisions_weights_give_torchvisions_features_and_taps(full):
    x = torch.randn(2, 3, 64, 96)
    expected, taps = x, {}
    for i, block in enumerate(full.features):
        if i in (7, 14):  # the tap is the block's output before every second value is left out
            (depthwise,) = [m for m in block.modules() if getattr(m, "groups", 1) > 1]
            depthwise.stride = (1, 1)
            taps[i] = block(expected)
            depthwise.stride = (2, 2)
        expected = block(expected)
    net = encoder(1.0)
    net.load_state_dict(from_torchvision(full.state_dict()), strict=True)
    features = net.eval()(x, Context("DHF1K"))
    assert expected.std() > 0.1  # the signal has come through
    for mine, other in zip(features, (expected, taps[14], taps[7]), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_the_translation_has_every_key_of_the_encoder_once(full):
    translated = from_torchvision(full.state_dict())
    own = encoder(1.0).state_dict()
    assert {k: (v.shape, v.dtype) for k, v in translated.items()} == {
        k: (v.shape, v.dtype) for k, v in own.items()
    }
    left_out = {k for k in full.state_dict() if k.startswith("classifier")}
    assert len(translated) == len(full.state_dict()) - len(left_out)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", ["our keys", "torchvision's keys"])
def test_the_encoder_starts_from_the_named_file(
    tmp_path, monkeypatch, theirs, fetched, kind, names
):
    fetched(AssertionError("nothing may be fetched"))
    expected = from_torchvision(theirs.state_dict())
    state = theirs.state_dict() if names == "torchvision's keys" else expected
    KINDS[kind](state, tmp_path / kind)
    monkeypatch.setenv("UNISAL_ENCODER_WEIGHTS", str(tmp_path / kind))
    net = encoder()
    load_encoder(net)
    for key, value in net.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_without_a_file_the_encoder_starts_from_torchvisions_weights(full, fetched, monkeypatch):
    monkeypatch.setenv("UNISAL_ENCODER_WEIGHTS", "")
    calls = fetched(full.state_dict())
    net = UNISAL(rnn_input_channels=16, rnn_hidden_channels=16)  # `pretrained` is the default
    expected = from_torchvision(full.state_dict())
    assert_states_equal(net.cnn.state_dict(), {k: expected[k] for k in net.cnn.state_dict()})
    (options,) = calls
    assert options["weights_only"] is True
    assert options["check_hash"] is True


@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known"),
        HTTPError("http://x", 503, "Service Unavailable", {}, None),
        TimeoutError("timed out"),
        RuntimeError('invalid hash value (expected "b0353104", got "1234")'),
        OSError(28, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_network_the_message_says_what_to_do(fetched, error):
    fetched(error)
    net = encoder()
    before = copy_of(net)
    with pytest.raises(UserError) as refused:
        load_encoder(net)
    said = str(refused.value)
    assert str(error) in said
    assert "UNISAL_ENCODER_WEIGHTS" in said
    assert "'pretrained' to False" in said
    assert_states_equal(net.state_dict(), before)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Return the file that torchvision keeps of an earlier download; it is read without a check."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth"
    path.parent.mkdir(parents=True)
    return path


def test_torchvisions_own_copy_is_used(cached, theirs):
    torch.save(theirs.state_dict(), cached)
    net = encoder()
    load_encoder(net)
    expected = from_torchvision(theirs.state_dict())
    for key, value in net.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("fault", ["malicious", "truncated"])
def test_torchvisions_own_copy_is_not_trusted(cached, tmp_path, theirs, fault):
    torch.save({"x": RunsCode(tmp_path / "trace")}, cached)
    if fault == "truncated":
        torch.save(theirs.state_dict(), cached)
        cached.write_bytes(cached.read_bytes()[:-1000])
    net = encoder()
    before = copy_of(net)
    with pytest.raises(UserError, match=r"torchvision's.*UNISAL_ENCODER_WEIGHTS") as refused:
        load_encoder(net)
    assert "weights_only" not in str(refused.value)
    assert not (tmp_path / "trace").exists()
    assert_states_equal(net.state_dict(), before)


def test_an_encoder_file_that_does_not_fit_is_named(tmp_path, monkeypatch, full):
    path = tmp_path / "encoder.pth"
    monkeypatch.setenv("UNISAL_ENCODER_WEIGHTS", str(path))
    wider = {**TINY, "cnn_cfg": {**TINY["cnn_cfg"], "pretrained": True}}
    with pytest.raises(UserError, match=f"weights file {path} does not exist"):
        UNISAL(**wider)
    torch.save(full.state_dict(), path)
    with pytest.raises(UserError) as refused:
        UNISAL(**wider)
    shapes = "features.0.0.weight is [32, 3, 3, 3], expected [8, 3, 3, 3]"
    assert str(refused.value).startswith(f"{path} does not fit this network: ")
    assert shapes in str(refused.value)


def test_the_file_goes_into_the_encoder_alone(tmp_path, monkeypatch):
    cnn_cfg = {**TINY["cnn_cfg"], "pretrained": True}
    torch.manual_seed(5)
    other = UNISAL(**TINY).cnn
    torch.save(other.state_dict(), tmp_path / "encoder.pth")
    monkeypatch.setenv("UNISAL_ENCODER_WEIGHTS", str(tmp_path / "encoder.pth"))
    torch.manual_seed(0)
    started = UNISAL(**{**TINY, "cnn_cfg": cnn_cfg})
    torch.manual_seed(0)
    plain = UNISAL(**TINY)
    assert_states_equal(started.cnn.state_dict(), other.state_dict())
    own, expected = started.state_dict(), plain.state_dict()
    rest = [k for k in expected if not k.startswith("cnn.")]
    assert_states_equal({k: own[k] for k in rest}, {k: expected[k] for k in rest})


def test_loading_a_run_reads_no_encoder_file_and_fetches_nothing(tmp_path, monkeypatch, fetched):
    fetched(AssertionError("nothing may be fetched"))
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    expected = write_run(tmp_path / "mine")
    cnn_cfg = {**TINY["cnn_cfg"], "pretrained": True}
    save_json(tmp_path / "mine" / "UNISAL.json", {**expected.config, "cnn_cfg": cnn_cfg})
    for named in (None, str(tmp_path / "missing.pth")):
        if named:
            monkeypatch.setenv("UNISAL_ENCODER_WEIGHTS", named)
        assert_states_equal(load_model("mine").state_dict(), expected.state_dict())
