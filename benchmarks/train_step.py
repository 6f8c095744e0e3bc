"""Time of a training step, compared with a bare `tf.function` of the same model and with PyTorch, in one run.

    python benchmarks/train_step.py [--head=full|light] [--crop=257] [--batch=4] [--rounds=15] [--features[=REGEX]]
                                    [--neighbor] [--pytorch=PYTHON] [--isa=AVX2]

All steps take turns. The table shows processor seconds (of all cores) and wall seconds, the minimum of all rounds. On a
machine with other work, the processor seconds tell more, but they do not show which step uses several cores.

The bare function only computes the forward pass, cross-entropy, gradients and momentum; this project's step adds weight
decay, gradient multipliers, the schedule and the checks. A third row runs the same model on plain Keras operations
(batch norm in parts, resizing by gathers), to show what the fused kernels of `slim/kernels.py` save. `--head=light` is
image pooling and a 1x1 branch without decoder.

`--features` adds rows for what a training may switch on: running averages, clipping, class weights, all three, batches
in two parts, a frozen backbone, other losses, an auxiliary head, half precision, group norm, other optimizers. Each has
its own model, so they need memory; `--features='adam|lion'` adds only the rows whose names match.

`--pytorch` adds PyTorch: the same model with channels last, in a process of another Python that has PyTorch, which
`scripts/make_peer_env.sh pytorch FOLDER` makes. `--isa=AVX2` restricts both to the vector code of processors without
AVX-512, such as Zen 3.

`--neighbor` starts a process that keeps one core busy. It shows why the same step has two speeds on a shared machine of
two cores: every operation is split in halves, one for each core, and waits for the slower half, so a single busy
process costs nearly a whole core. Steps that need less processor time lose less; other numbers of threads did not help.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.utils import console

CLASSES = 21
TOGETHER = {"ema_decay": 0.999, "clip": 1.0, "label_weights": tuple(0.5 + index / CLASSES for index in range(CLASSES))}
FEATURES: dict[str, dict] = {
    **{f"ours with {name}": {name: value} for name, value in TOGETHER.items()},
    "ours with all three": TOGETHER,
    "ours in two parts": {"parts": 2},
    "ours, backbone frozen": {"freeze": "backbone"},
    "ours, all frozen but logits": {"freeze": "all_but_logits"},
    "ours with classes balanced per batch": {"adaptive": True},
    "ours with a sum of two losses": {"loss": "cross_entropy + 0.5*dice"},
    "ours with hard pixels alone": {"top_k": 0.25},
    "ours with an auxiliary head": {"auxiliary": True},
    "ours with group norm": {"normalization": "group"},
    "ours in mixed_bfloat16": {"precision": "mixed_bfloat16"},
    **{f"ours with {name}": {"optimizer": name} for name in ("adam", "rmsprop", "adamw", "lion")},
    "ours with nadam of Keras": {"optimizer": "nadam"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", choices=("full", "light"), default="full")
    parser.add_argument("--crop", type=int, default=257)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--features", nargs="?", const="", metavar="REGEX", help="rows of features (unset: all)")
    parser.add_argument("--neighbor", action="store_true")
    parser.add_argument("--pytorch", metavar="PYTHON", help="interpreter with PyTorch")
    parser.add_argument("--isa", help="largest vector extension that oneDNN and PyTorch may use, such as AVX2")
    args = parser.parse_args()
    if args.isa:
        os.environ.update(ONEDNN_MAX_CPU_ISA=args.isa, ATEN_CPU_CAPABILITY=args.isa.lower().split("_")[0])
    console.import_tensorflow()
    contestants = {
        "ours": our_step(args),
        "bare tf.function": bare_step(args),
        "plain Keras operations": with_plain_keras(lambda: bare_step(args)),
    }
    if args.features is not None:
        chosen = {name: more for name, more in FEATURES.items() if re.search(args.features, name)}
        contestants |= {name: our_step(args, **more) for name, more in chosen.items()}
    with contextlib.ExitStack() as stack:
        processes = {}
        if args.pytorch:
            peer = stack.enter_context(pytorch(args))
            contestants["PyTorch"], processes["PyTorch"] = peer
        if args.neighbor:
            stack.enter_context(busy_core())
        seconds = in_turn(contestants, args.rounds, processes)
    shortest = {name: (min(used), min(passed)) for name, (used, passed) in seconds.items()}
    base = shortest["bare tf.function"]
    rows = [
        (
            name,
            *(f"{1000 * value:.0f}" for value in values),
            *(f"{a / b:.3f}" for a, b in zip(values, base, strict=True)),
        )
        for name, values in shortest.items()
    ]
    print(console.table(rows, ["step", "processor ms", "wall ms", "processor to bare", "wall to bare"]))


def in_turn(
    contestants: dict[str, Callable[[], None]], rounds: int, processes: dict[str, int]
) -> dict[str, tuple[list[float], list[float]]]:
    """Processor and wall seconds of each step, run one after the other in every round, after three to warm up.

    Args:
      contestants: steps by name.
      rounds: how often each is measured.
      processes: number of the process whose seconds count, for those that are not in this one.
    """
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contestants}
    for number in console.progress(range(rounds + 3), what="rounds", unit="round"):
        for name, step in contestants.items():
            used, start = processor_seconds(processes.get(name)), time.perf_counter()
            step()
            if number >= 3:
                seconds[name][1].append(time.perf_counter() - start)
                seconds[name][0].append(processor_seconds(processes.get(name)) - used)
    return seconds


def processor_seconds(process: int | None) -> float:
    """Seconds that all threads of a process have run; of this one without a number."""
    if process is None:
        return time.process_time()
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def pytorch(args: argparse.Namespace) -> Iterator[tuple[Callable[[], None], int]]:
    """PyTorch's step, and the number of its process.

    Raises:
      SystemExit: its model has another number of parameters than ours.
    """
    from deeplab.model import build_model

    program = str(pathlib.Path(__file__).with_name("pytorch_peer.py"))
    command = [args.pytorch, program, args.head, str(args.crop), str(args.batch), "float32", "train"]
    # Threads that wait actively would count as work.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin and process.stdout
        facts = json.loads(process.stdout.readline())
        own = sum(
            weight.value.shape.num_elements() for weight in build_model(settings(args), CLASSES).trainable_weights
        )
        if facts["parameters"] != own:
            raise SystemExit(f"PyTorch's model has {facts['parameters']} parameters, ours {own}")
        print(f"PyTorch {facts['version']}, {own:,} parameters on both sides")

        def step() -> None:
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()

        yield step, process.pid
        process.stdin.close()


def settings(args: argparse.Namespace):
    """The config of the model."""
    from deeplab.config.model_config import ModelConfig

    return ModelConfig() if args.head == "light" else ModelConfig(atrous_rates=(6, 12, 18), decoder_output_stride=(4,))


def batch_of(args: argparse.Namespace) -> dict:
    """A fixed random batch."""
    import tensorflow as tf

    shape = (args.batch, args.crop, args.crop)
    return {
        "image": tf.random.stateless_uniform((*shape, 3), (1, 2), 0, 255),
        "label": tf.random.stateless_uniform(shape, (3, 4), 0, CLASSES, tf.int32),
    }


def our_step(
    args: argparse.Namespace,
    *,
    ema_decay: float = 0.0,
    clip: float = 0.0,
    label_weights: tuple[float, ...] = (),
    parts: int = 1,
    freeze: str = "none",
    optimizer: str = "momentum",
    loss: str = "cross_entropy",
    adaptive: bool = False,
    top_k: float = 1.0,
    auxiliary: bool = False,
    normalization: str = "batch",
    precision: str = "float32",
) -> Callable[[], None]:
    """The project's step, as the training loop calls it."""
    import dataclasses

    import keras
    import tensorflow as tf

    from deeplab import losses
    from deeplab.config.training_config import LossConfig, OptimizerConfig
    from deeplab.model import build_model
    from deeplab.training import freezing, optimizers
    from deeplab.training.averages import Averages
    from deeplab.training.randomness import StepClock
    from deeplab.training.step import Trainer, make_train_step
    from slim.layers import variables_by_name

    keras.config.set_dtype_policy(precision)
    config = dataclasses.replace(settings(args), normalization=normalization)
    model = build_model(config, CLASSES, with_auxiliary_head=auxiliary)
    keras.config.set_dtype_policy("float32")
    trainable = {name: v for name, v in variables_by_name(model).items() if v.trainable}
    schedule = OptimizerConfig(base_learning_rate=0.001, optimizer=optimizer, gradient_clip_norm=clip)
    clock = StepClock(10**6)
    clock.control(model, 0)
    frozen = freezing.frozen_names(freeze, trainable)
    freezing.hold_statistics(model, frozen, train_batch_norm=True)
    trainer = Trainer(
        model,
        optimizers.make(schedule, trainable),
        losses.get(loss, ignore_label=255, label_weights=label_weights, adaptive=adaptive, top_k_percent_pixels=top_k),
        LossConfig().weight_decay,
        schedule,
        10**6,
        clock,
        parts=parts,
        averages=Averages(variables_by_name(model), ema_decay) if ema_decay else None,
    )
    step, batch = make_train_step(trainer, tf.distribute.get_strategy(), frozen), batch_of(args)
    zero = tf.constant(0, tf.int64)
    return lambda: float(step(batch, zero)["total_loss"])


def bare_step(args: argparse.Namespace) -> Callable[[], None]:
    """Forward, sparse cross-entropy, gradient, momentum, and nothing else."""
    import tensorflow as tf

    from deeplab.model import MERGED_LOGITS, build_model
    from slim import kernels

    model, batch = build_model(settings(args), CLASSES), batch_of(args)
    weights = [variable.value for variable in model.trainable_variables]
    slots = [tf.Variable(tf.zeros_like(weight)) for weight in weights]

    @tf.function(jit_compile=False)
    def step(image, label):
        with tf.GradientTape() as tape:
            logits = model(image, training=True)[MERGED_LOGITS]
            logits = kernels.resize_bilinear(logits, args.crop, args.crop)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=logits))
        for weight, slot, gradient in zip(weights, slots, tape.gradient(loss, weights), strict=True):
            tf.raw_ops.ResourceApplyMomentum(
                var=weight.handle, accum=slot.handle, lr=0.001, grad=gradient, momentum=0.9
            )
        return loss

    step(batch["image"], batch["label"])  # traced here, while the operations are chosen
    return lambda: float(step(batch["image"], batch["label"]))


def with_plain_keras(make: Callable) -> Callable[[], None]:
    """Builds a step while the fused kernels are switched off."""
    from slim import kernels

    fused, kernels.tf = kernels.tf, None
    try:
        return make()
    finally:
        kernels.tf = fused


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Another process that does nothing but work."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
