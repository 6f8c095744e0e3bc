"""The command line: every flag of the reference, both styles of lists, and what is refused."""

import json

import pytest
from support.errors import raises

from deeplab import eval, export_model, train, vis
from deeplab.config import flags, model_config, prediction_config, training_config
from deeplab.utils.errors import UserError

TRAIN = train.GROUPS
COMMANDS = {"train.py": train, "eval.py": eval, "vis.py": vis, "export_model.py": export_model}

# Our defaults where they differ from the reference's on purpose; each field's help says so.
OTHER_DEFAULTS = {
    "batch_norm_decay",
    "dataset",
    "eval_crop_size",
    "vis_crop_size",
    "max_number_of_evaluations",
    "max_number_of_iterations",
    "colormap_type",
    "num_classes",
    "output_stride",  # export_model.py's own default of 8 is a matter of its own tests
}


def parse(*words, groups=TRAIN):
    return flags.parse(groups, ["command", *words])


def made(*words, group=training_config.TrainConfig, groups=TRAIN):
    given = parse("--train_logdir=a", "--dataset_dir=b", *words, groups=groups)
    return flags.settings_from(given, groups)[groups.index(group)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--atrous_rates=6", "--atrous_rates=12", "--atrous_rates=18"], (6, 12, 18)),
        (["--atrous_rates=6,12,18"], (6, 12, 18)),
        (["--atrous_rates=6, 12,18"], (6, 12, 18)),
        (["--atrous_rates", "6"], (6,)),
        (["-atrous_rates=6"], (6,)),
        ([], ()),
    ],
)
def test_lists_are_read_in_every_style(words, expected):
    assert made(*words, group=model_config.ModelConfig).atrous_rates == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--train_crop_size=257,385"], (257, 385)),
        (["--train_crop_size=257", "--train_crop_size=385"], (257, 385)),
        (["--train_crop_size=257"], (257, 257)),
        ([], (513, 513)),
    ],
)
def test_sizes_are_read_in_every_style(words, expected):
    assert made(*words).train_crop_size == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--fine_tune_batch_norm=false", False),
        ("--nofine_tune_batch_norm", False),
        ("--fine_tune_batch_norm=False", False),
        ("--fine_tune_batch_norm=true", True),
        ("--fine_tune_batch_norm", True),
    ],
)
def test_switches_are_read_in_every_style(word, expected):
    assert made(word).fine_tune_batch_norm is expected


@pytest.mark.parametrize(
    ("words", "code", "field", "hint"),
    [
        (["--initialize_last_layer", "=", "False"], "left-over-words", None, "without spaces"),
        (["--initialize_last_layer", "False"], "left-over-words", None, "takes its value with an equals sign"),
        (["--train_batch_size=4.5"], "wrong-type", "train_batch_size", ""),
        (["--train_batch_size=0"], "out-of-range", "train_batch_size", ""),
        (["--train_crop_size=1,2,3"], "wrong-type", "train_crop_size", ""),
        (["--optimizer=sgd"], "unknown-name", "optimizer", ""),
        (["--top_k_percent_pixels=25"], "out-of-range", "top_k_percent_pixels", "`top_k_percent_pixels=0.25` if"),
        (["--num_clones=3", "--train_batch_size=8"], "indivisible-batch", "train_batch_size", "`train_batch_size=9`"),
        (["--decoder_output_stride=4,8"], "out-of-range", "decoder_output_stride", "`decoder_output_stride=8,4`"),
        (["--output_stride=12"], "out-of-range", "output_stride", ""),
        (["--max_resize_value=513"], "missing-setting", "max_resize_value", "`min_resize_value=513`"),
        (["--min_scale_factor=2", "--max_scale_factor=1"], "conflicting-settings", "min_scale_factor", ""),
        (["--logits_kernel_size=3"], "conflicting-settings", "logits_kernel_size", "`aspp_with_batch_norm=false`"),
        (["--label_weights=1,-2"], "out-of-range", "label_weights", ""),
        (["--momentum=much"], "wrong-type", "momentum", ""),
        (["--num_replicas=2"], "not-supported", "num_replicas", ""),
    ],
)
def test_what_cannot_be_meant_is_refused(words, code, field, hint):
    with raises(code, field) as info:
        made(*words)
    assert hint in info.value.hint


def test_an_unknown_flag_names_its_neighbor():
    with raises("unknown-flag") as info:
        made("--trainlogdir=x")
    assert "train_logdir" in info.value.rule


def test_messages_say_what_is_wanted_and_what_was_given():
    with raises("wrong-type", "train_batch_size") as info:
        made("--train_batch_size=4.5")
    assert str(info.value) == "`train_batch_size`: needs a whole number, not '4.5'"
    with raises("unknown-name", "optimizer") as info:
        made("--optimizer=sgd")
    assert "must be one of momentum, adam" in str(info.value)


def test_required_flags_are_named():
    with raises("missing-setting") as info:
        flags.settings_from(parse(), TRAIN)
    assert "`dataset_dir`, `train_logdir` must be given" in info.value.rule


def test_flags_that_lost_their_meaning_say_what_stands_in_their_place(capsys):
    parse("--num_ps_tasks=2", "--clone_on_cpu=true")
    said = capsys.readouterr().err
    assert "--num_ps_tasks has no effect" in said and "CUDA_VISIBLE_DEVICES" in said


def test_logging_flags_of_old_commands_are_accepted():
    assert parse("--logtostderr", "--verbosity=1", "--alsologtostderr=false", "--v=2") == {}


def test_a_configuration_file_sets_defaults_and_flags_win(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text("train:\n  train_batch_size: 4\n  train_crop_size: [257, 257]\nlabel_weights: 1,10,5\n")
    given = parse(f"--config={path}", "--train_batch_size=6")
    assert given == {"train_batch_size": 6, "train_crop_size": (257, 257), "label_weights": (1.0, 10.0, 5.0)}


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("train_bach_size: 4", "unknown-name", "did you mean 'train_batch_size'"),
        ("- 1", "unreadable-yaml", "name: value"),
        ("a: [", "unreadable-yaml", "YAML: line 1, column 5"),
    ],
)
def test_a_bad_configuration_file_is_refused(tmp_path, text, code, says):
    path = tmp_path / "config.yml"
    path.write_text(text)
    with raises(code, where=path) as info:
        parse(f"--config={path}")
    assert says in str(info.value)


def test_help_lists_every_flag_that_has_a_meaning(capsys):
    assert parse("--help") is None
    said = capsys.readouterr().out
    for name, (field, _) in flags.fields_of(TRAIN).items():
        assert (f"--{name}:" in said) is not bool(field.metadata["retired"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_the_reference_is_there_with_its_default(golden, command):
    fields = flags.fields_of(COMMANDS[command].GROUPS)
    reference = json.loads((golden / "reference_flags.json").read_text())[command]
    for name, default in reference.items():
        assert name in fields, name
        field = fields[name][0]
        if name in OTHER_DEFAULTS or field.metadata["retired"]:
            continue
        ours = field.default
        if isinstance(ours, tuple):
            assert [float(value) for value in ours] == [float(value) for value in default or []], name
        else:
            assert ours == default or (not ours and not default), name


def test_a_command_ends_with_an_exit_code_and_no_traceback(capsys):
    def fail(*_):
        raise UserError("a-code", "a rule", "do this", where="here")

    assert flags.run(fail, (prediction_config.InferenceConfig,), ["command"]) == 1
    assert capsys.readouterr().err == "error: here: a rule [a-code]\n  hint: do this\n"
    assert flags.run(lambda *_: None, (prediction_config.InferenceConfig,), ["command"]) == 0
