"""Files for schedulers: as far as can be told without a cluster, they are what Slurm and Kubernetes accept."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from deeplab import train
from deeplab.config.fields import fields_of
from deeplab.training.cluster import of_tf_config

FOLDER = pathlib.Path(__file__).parents[1] / "scripts" / "cluster"


def test_the_slurm_file_is_a_batch_script():
    path = FOLDER / "train.sbatch"
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(path)], check=True)
    text = path.read_text(encoding="utf-8")
    options = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.M)
    assert len(options) == text.count("#SBATCH") and {"nodes", "ntasks-per-node", "requeue"} <= dict(options).keys()
    before_commands = text[: text.index("set -euo")]
    assert all(line.startswith("#") for line in before_commands.splitlines())  # Slurm reads none after a command
    assert set(re.findall(r" --([a-z]+_[a-z_]+)=", text)) <= set(fields_of(train.GROUPS))


SRUN = """
import os, pathlib, subprocess, sys
pathlib.Path("words").write_text("\\n".join(sys.argv[1:]))
command = sys.argv[sys.argv.index("bash"):]
codes = os.environ["CODES"].split(",")
tasks = {"SLURM_STEP_NUM_TASKS": str(len(codes)), "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_ID": "0"}
tasks |= {"SLURM_STEP_TASKS_PER_NODE": str(len(codes)), "SLURM_NODEID": "0"}
started = [
    subprocess.Popen(command, env={**os.environ, **tasks, "SLURM_PROCID": str(task), "CODE": code})
    for task, code in enumerate(codes)
]
found = [process.wait() for process in started]
sys.exit(max(code if code >= 0 else 128 - code for code in found))
"""
DEEPLAB = """#!/bin/sh
printf "%s\\n" "$SLURM_PROCID $*" >> ran
if [ "$CODE" -lt 128 ] || [ "$CODE" = 130 ]; then exit "$CODE"; fi
kill -$((CODE - 128)) $$
"""


@pytest.fixture()
def slurm(tmp_path):
    """Runs the batch file with programs in place of Slurm's and of `deeplab`; the exit codes of the tasks are given."""

    def run(codes, **variables):
        for name, body in (
            ("srun", f'#!/bin/sh\nexec {sys.executable} {tmp_path / "srun.py"} "$@"\n'),
            ("scontrol", '#!/bin/sh\necho "$@" > requeued\n'),
            ("deeplab", DEEPLAB),
            ("srun.py", SRUN),
        ):
            (tmp_path / name).write_text(body)
            (tmp_path / name).chmod(0o755)
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "9", "CODES": codes, **variables}
        command = ["bash", str(FOLDER / "train.sbatch"), "--train_logdir=a b"]
        code = subprocess.run(command, env=environment, cwd=tmp_path).returncode
        return code, (tmp_path / "requeued").exists()

    return run


@pytest.mark.parametrize("gpus", ["4", "a100:4"])
def test_the_slurm_file_passes_its_words_on(tmp_path, slurm, gpus):
    assert slurm("0,0", SLURM_GPUS_PER_NODE=gpus) == (0, False)
    words = (tmp_path / "words").read_text().splitlines()
    assert words[-1] == "--train_logdir=a b" and "--num_clones=4" in words
    ran = sorted((tmp_path / "ran").read_text().splitlines())
    assert [line[:8] for line in ran] == ["0 train ", "1 train "] and all(line.endswith("=a b") for line in ran)


@pytest.mark.parametrize(
    ("codes", "code", "requeued"),
    [
        ("75,75", 75, True),
        ("75,137", 75, True),
        ("139,75", 75, True),
        ("75,1", 1, False),
        ("2,75,75", 2, False),
        ("70,75", 70, False),
        ("3,75", 3, False),
        ("130,130", 130, False),
        ("130,75", 130, False),
        ("143,130", 130, False),
    ],
)
def test_slurm_starts_again_after_lost_workers_alone(slurm, codes, code, requeued):
    assert slurm(codes) == (code, requeued)


def test_slurm_does_not_start_again_for_ever(slurm):
    assert slurm("75,75", SLURM_RESTART_COUNT="100") == (75, False)


def test_the_kubernetes_manifest():
    service, job = yaml.safe_load_all((FOLDER / "train.yaml").read_text(encoding="utf-8"))
    assert (service["apiVersion"], service["kind"], service["spec"]["clusterIP"]) == ("v1", "Service", "None")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy requires it
    assert pod["subdomain"] == service["metadata"]["name"] == job["metadata"]["name"]
    labels = spec["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert 75 not in spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4 and "--num_clones=4" in container["args"][0]
    assert next(each["value"] for each in container["env"] if each["name"] == "WORKERS") == str(spec["completions"])


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_kubernetes_has_a_schema_for_the_manifest(version):
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for part in yaml.safe_load_all((FOLDER / "train.yaml").read_text(encoding="utf-8")):
        validator.validate(part, version, strict=True)


def test_the_pods_know_each_other(tmp_path):
    _, job = yaml.safe_load_all((FOLDER / "train.yaml").read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (tmp_path / "deeplab").write_text('#!/bin/sh\nprintf "%s" "$TF_CONFIG"\n')
    (tmp_path / "deeplab").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "WORKERS": "3", "JOB_COMPLETION_INDEX": "2"}
    text = subprocess.run([*container["command"], *container["args"]], env=environment, capture_output=True, text=True)
    assert json.loads(text.stdout)
    found = of_tf_config(text.stdout)
    assert found.index == 2
    assert found.addresses == tuple(f"deeplab-train-{number}.deeplab-train:2222" for number in range(3))
