"""Files for schedulers: as far as can be told without a cluster, they are what Slurm and Kubernetes accept."""

import json
import pathlib
import re
import shutil
import subprocess

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


@pytest.mark.parametrize("gpus", ["4", "a100:4"])
def test_the_slurm_file_passes_its_words_on_and_requeues_lost_workers_alone(tmp_path, gpus):
    for name, body in (("srun", 'printf "%s\\n" "$@" > words; exit "$CODE"'), ("scontrol", 'echo "$@" > requeued')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for code, requeued in ((0, False), (1, False), (75, True)):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_GPUS_PER_NODE": gpus, "SLURM_JOB_ID": "9"}
        command = ["bash", str(FOLDER / "train.sbatch"), "--train_logdir=a b"]
        done = subprocess.run(command, env={**environment, "CODE": str(code)}, cwd=tmp_path)
        assert done.returncode == code and (tmp_path / "requeued").exists() == requeued
        words = (tmp_path / "words").read_text().splitlines()
        assert words[-1] == "--train_logdir=a b" and "--num_clones=4" in words


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
