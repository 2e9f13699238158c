"""The files for Slurm and Kubernetes are well-formed, and what they call is there."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess

import pytest
import yaml
from support import PROJECT

from unisal.commands.table import COMMANDS

FOLDER = PROJECT / "examples" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))
MANIFESTS = sorted(FOLDER.glob("*.yaml"))
SLURM = {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "exclusive"} | {
    "time",
    "output",
}
"""Options of sbatch that the scripts use."""
FIELDS = {
    "RayCluster": {"rayVersion", "headGroupSpec", "workerGroupSpecs"},
    "RayJob": {
        *("entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"),
        "backoffLimit",
    },
    "group": {
        *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
    },
    "container": {"name", "image", "env", "resources", "volumeMounts"},
}
"""The fields of the API ray.io/v1, and of a pod's container, that the manifests use."""


def words_of(path):
    """-> the words of a script, comments left out and lines joined."""
    return shlex.split(path.read_text().replace("\\\n", " "), comments=True)


def called(words):
    """-> the command of the program, and the names of the options that it is given."""
    begins = [
        i for i, word in enumerate(words[:-1]) if word == "unisal" and words[i + 1] in COMMANDS
    ]
    (begin,) = begins
    options = [w for w in words[begin + 2 :] if w.startswith("--")]
    return words[begin + 1], {option[2:].partition("=")[0] for option in options}


def check_call(words):
    command, options = called(words)
    known = inspect.signature(COMMANDS[command]).parameters
    assert options and sorted(options - set(known)) == []
    return command, options


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_a_script_for_slurm_is_sound(path):
    text = path.read_text()
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    head = text.partition("\nset -euo pipefail\n")[0]
    options = re.findall(r"^#SBATCH --([a-z-]+)(?:=\S+)?$", text, re.MULTILINE)
    assert set(options) <= SLURM and {"nodes", "ntasks-per-node", "time"} <= set(options)
    assert head.count("#SBATCH") == text.count("#SBATCH")  # Slurm reads none after a command
    check_call(words_of(path))
    # What Slurm sets only where it was asked for.
    asked = {"SLURM_GPUS_PER_NODE": "gpus-per-node", "SLURM_CPUS_PER_TASK": "cpus-per-task"}
    used = {option for name, option in asked.items() if name in text}
    assert used <= set(options)


def test_scripts_stop_without_what_they_need(tmp_path):
    for path in SCRIPTS:
        done = subprocess.run(
            ["bash", str(path)], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
            check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode != 0 and re.search("names the folder|the list of", done.stderr)


def fake(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        (
            "train.sbatch",
            [],
            "torchrun --nnodes=2 --nproc-per-node=4 --rdzv-id=7 --rdzv-backend=c10d "
            "--rdzv-endpoint=m1:29500 --max-restarts=3 -m unisal train --data_sources=SALICON "
            "--prefix=mine",
        ),
        (
            "predict.sbatch",
            ["films 1.txt", "maps"],
            "ray symmetric-run --address m1:20007 --min-nodes 2 --num-cpus 32 -- unisal "
            "predict_video --files=films 1.txt --out_dir=maps --address=auto",
        ),
    ],
)
def test_what_a_script_starts(tmp_path, name, words, expected):
    fake(tmp_path, "scontrol", "printf 'm%s\\n' {1..30000}")  # more than a pipe holds
    fake(tmp_path, "srun", 'echo "$OMP_NUM_THREADS" "$@"')
    env = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "TRAIN_DIR": "/runs",
        "SALICON_DATA_DIR": "/salicon",
        "SLURM_JOB_NODELIST": "m[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "7",
        "SLURM_GPUS_PER_NODE": "a100:4",
        "SLURM_CPUS_PER_TASK": "32",
    }
    command = ["bash", str(FOLDER / name), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    threads = "8" if name == "train.sbatch" else ""
    assert done.stdout.strip() == f"{threads} {expected}".strip()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_the_launchers_know_their_options(script):
    words = words_of(script)
    if "torchrun" in words:
        from torch.distributed.run import get_args_parser

        known = get_args_parser()._option_string_actions
        begin, end = words.index("torchrun"), words.index("-m")
    else:
        ray = pytest.importorskip("ray.scripts.symmetric_run")
        start = pytest.importorskip("ray.scripts.scripts").start
        known = {o for c in (ray.symmetric_run, start) for p in c.params for o in p.opts}
        begin, end = words.index("symmetric-run"), words.index("--")
    options = {w.partition("=")[0] for w in words[begin:end] if w.startswith("--")}
    assert options and options <= set(known)


def clusters(manifest):
    spec = manifest["spec"]
    return spec["rayClusterSpec"] if manifest["kind"] == "RayJob" else spec


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_a_manifest_has_the_fields_of_kuberay(path):
    manifest = yaml.safe_load(path.read_text())
    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    assert manifest["apiVersion"] == "ray.io/v1"
    assert set(manifest["spec"]) <= FIELDS[manifest["kind"]]
    cluster = clusters(manifest)
    assert set(cluster) <= FIELDS["RayCluster"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert set(group) <= FIELDS["group"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert set(container) <= FIELDS["container"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert container["resources"]["requests"] == container["resources"]["limits"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    images = {g["template"]["spec"]["containers"][0]["image"] for g in groups}
    assert len(images) == 1  # Python and Ray are of one version in all pods
    if manifest["kind"] == "RayJob":
        command, options = check_call(shlex.split(manifest["spec"]["entrypoint"]))
        assert command == "predict_video" and {"files", "address"} <= options


def test_both_manifests_describe_the_same_cluster():
    one, other = (clusters(yaml.safe_load(path.read_text())) for path in MANIFESTS)
    assert one == other and len(MANIFESTS) == 2


def test_each_file_is_told_of_in_a_guide():
    guides = [PROJECT / "docs" / "guide" / f"{name}.md" for name in ("slurm", "kubernetes")]
    text = "".join(guide.read_text() for guide in guides)
    assert [p.name for p in FOLDER.iterdir() if f"examples/cluster/{p.name}" not in text] == []
