"""The command line: every flag of the reference, both styles of lists, and what is refused."""

import dataclasses
import json
import os
import re

import pytest
from support.errors import raises

from deeplab import eval, export_model, train, vis
from deeplab.config import model_config, training_config
from deeplab.config.command_line import (
    Command,
    UsageError,
    Word,
    all_settings,
    configs_from,
    given_values,
    read_flags,
)
from deeplab.config.export_config import ExportConfig
from deeplab.config.fields import Config, Texts, fields_of, setting
from deeplab.config.prediction_config import InferenceConfig
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


@dataclasses.dataclass(frozen=True)
class Places(Config):
    inputs: Texts = setting((), "JPEG files.", required=True)
    paths: str = setting("", "Files.")


def parse(*words, groups=TRAIN):
    return Command("command", lambda given: None, groups, "").parse(words)[1]


def made(*words, group=training_config.TrainConfig, groups=TRAIN):
    given = parse("--train_logdir=a", "--dataset_dir=b", *words, groups=groups)
    return configs_from(given, groups)[groups.index(group)]


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
        ("--fine_tune_batch_norm=off", False),
        ("--fine_tune_batch_norm=On", True),
        ("--no-fine-tune-batch-norm", False),
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
        (["--merge_method=sum"], "unknown-name", "merge_method", ""),
        (["--top_k_percent_pixels=25"], "out-of-range", "top_k_percent_pixels", "`top_k_percent_pixels=0.25` if"),
        (["--num_clones=3", "--train_batch_size=8"], "indivisible-batch", "train_batch_size", "`train_batch_size=9`"),
        (["--decoder_output_stride=4,8"], "out-of-range", "decoder_output_stride", "`decoder_output_stride=8,4`"),
        (["--output_stride=12"], "out-of-range", "output_stride", ""),
        (["--max_resize_value=513"], "missing-setting", "max_resize_value", "`min_resize_value=513`"),
        (["--min_scale_factor=2", "--max_scale_factor=1"], "conflicting-settings", "min_scale_factor", ""),
        (["--logits_kernel_size=3"], "conflicting-settings", "logits_kernel_size", "`aspp_with_batch_norm=false`"),
        (["--label_weights=1,-2"], "out-of-range", "label_weights", ""),
        (["--momentum=much"], "wrong-type", "momentum", ""),
        (["--num_replicas=2", "--distribution=one"], "conflicting-settings", "distribution", "multi_worker"),
        (["--num_clones=2", "--distribution=tpu"], "conflicting-settings", "distribution", ""),
    ],
)
def test_what_cannot_be_meant_is_refused(words, code, field, hint):
    with raises(code, field) as info:
        made(*words)
    assert hint in info.value.hint


def test_an_unknown_flag_names_its_neighbor():
    with raises("unknown-flag") as info:
        made("--trainlogdir=x")
    assert info.value.hint == "did you mean --train_logdir?" and info.value.value == "trainlogdir"
    assert parse("--undefok=old,older", "--old=1", "--older", "--log_steps=2") == {"log_steps": 2}


@pytest.mark.parametrize(
    "flag, others",
    [("eval_crop_size", "eval"), ("vis_split", "vis"), ("export_path", "export"), ("sbd_root", "build_data (voc)")],
)
def test_a_flag_of_another_command_names_that_command(flag, others, tmp_path):
    with raises("unknown-flag") as info:
        made(f"--{flag}=x")
    assert info.value.value == flag and info.value.hint.startswith("it is a setting of ")
    assert f"deeplab {others}" in info.value.hint
    (tmp_path / "config.yml").write_text(f"{flag}: x\n")
    with raises("unknown-name", where="config.yml") as info:
        made(f"--config={tmp_path}/config.yml")
    assert f"deeplab {others}" in info.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lr", "--base_learning_rate"),
        ("epochs", "--training_epochs"),
        ("batch-size", "--train_batch_size"),
        ("crop_size", "--train_crop_size"),
        ("model", "--checkpoint_path"),
        ("num_classes", "dataset"),
        ("gpu", "CUDA_VISIBLE_DEVICES"),
        ("qqqq", "--help"),
    ],
)
def test_names_of_other_programs_are_understood(name, hint):
    groups = [ExportConfig] if name == "model" else TRAIN
    if hint.startswith("--") and hint != "--help":
        assert hint[2:] in fields_of(groups)
    with raises("unknown-flag") as info:
        read_flags([f"--{name}=1"], groups)
    assert hint in info.value.hint


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["\u2014log_steps=3"], "two hyphens"), (["\u2013log_steps=3"], "two hyphens"), (["12", "18"], "with commas")],
)
def test_words_that_are_left_over_say_what_was_meant(words, hint):
    with raises("left-over-words") as info:
        parse("--atrous_rates", "6", *words, groups=[*TRAIN, model_config.ModelConfig])
    assert hint in info.value.hint


def test_a_setting_in_two_sections_must_have_one_value(tmp_path):
    (tmp_path / "a.yml").write_text("one: {log_steps: 3}\ntwo: {log_steps: 3}\n")
    assert parse(f"--config={tmp_path}/a.yml") == {"log_steps": 3}
    (tmp_path / "a.yml").write_text("one: {log_steps: 3}\ntwo: {log_steps: 4}\n")
    with raises("conflicting-settings", "log_steps", where="a.yml"):
        parse(f"--config={tmp_path}/a.yml")
    template = "base: &base {log_steps: 3, save_interval_secs: 9}\nmine:\n  <<: *base\n  log_steps: 4\n"
    (tmp_path / "a.yml").write_text(template)
    assert parse(f"--config={tmp_path}/a.yml") == {"log_steps": 4, "save_interval_secs": 9}


@pytest.mark.parametrize("words", [["--train_logdir"], ["--train_logdir", "--dataset_dir=x"]])
def test_a_flag_without_its_value(words):
    with raises("missing-value", "train_logdir"):
        parse(*words)


def test_negative_numbers_and_a_lone_dash_are_values():
    assert parse("--quantize_delay_step", "-1", "--train_split", "-") == {"quantize_delay_step": -1, "train_split": "-"}


def test_names_may_be_written_with_dashes():
    assert parse("--train-batch-size=4") == {"train_batch_size": 4}


def test_words_after_two_dashes_are_no_flags():
    with raises("left-over-words"):
        parse("--", "--log_steps=3")


def test_flag_files(tmp_path):
    (tmp_path / "outer").write_text(f"# a comment\n\n--log_steps=3\n--flagfile={tmp_path}/inner\n--train_split=a\n")
    (tmp_path / "inner").write_text("--atrous_rates=6\n  --atrous_rates=12\n// another\n--train_split=b\n")
    given = parse("--atrous_rates=3", f"--flagfile={tmp_path}/outer", "--save_interval_secs=9")
    assert given == {"log_steps": 3, "atrous_rates": (3, 6, 12), "train_split": "a", "save_interval_secs": 9}
    (tmp_path / "inner").write_text(f"--flagfile={tmp_path}/outer")
    with raises("unreadable-file", where="outer"):
        parse(f"--flagfile={tmp_path}/outer")
    with raises("file-not-found", where="none"):
        parse(f"--flagfile={tmp_path}/none")


def test_messages_say_what_is_wanted_and_what_was_given():
    with raises("wrong-type", "train_batch_size") as info:
        made("--train_batch_size=4.5")
    assert str(info.value) == "`train_batch_size`: needs a whole number, not '4.5'"
    with raises("unknown-name", "merge_method") as info:
        made("--merge_method=sum")
    assert str(info.value) == "`merge_method`: must be one of max, avg, not 'sum'"


def test_required_flags_are_named():
    with raises("missing-setting", "train_logdir") as info:
        configs_from(parse(), TRAIN)
    assert info.value.rule == "must be given; so must `dataset_dir`"
    assert isinstance(info.value, UsageError)
    for group, hint in ((Places, "JPEG files."), (training_config.TrainConfig, "folder")):
        with pytest.raises(UsageError) as info:
            configs_from({}, [group])
        assert info.value.hint.startswith(hint)


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


def test_the_home_folder_is_meant_where_shells_leave_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.yml").write_text("tf_initial_checkpoint: ~/model.ckpt\n")
    (tmp_path / "flags.txt").write_text("--train_split=a~/b\n")
    given = parse("--config=~/config.yml", "--train_logdir=~/run", "--flagfile=~/flags.txt", "--dataset_dir=./~/x")
    assert given["tf_initial_checkpoint"] == f"{tmp_path}/model.ckpt" and given["train_logdir"] == f"{tmp_path}/run"
    assert given["train_split"] == "a~/b" and given["dataset_dir"] == "./~/x"
    several = given_values({"inputs": ["~/a", "~b"], "paths": "train:~/a.json,val:~/b.json"}, [Places])
    assert several["inputs"] == (f"{tmp_path}/a", "~b")
    assert several["paths"] == f"train:{tmp_path}/a.json,val:{tmp_path}/b.json"


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
    def shown(word):
        assert Command("train", lambda given: None, TRAIN, "").parse([word]) is None
        return {name.removeprefix("[no]") for name in re.findall(r"^  --([\w\[\]]+)", capsys.readouterr().out, re.M)}

    fields = {name: field.metadata for name, (field, _) in fields_of(TRAIN).items()}
    everyday = {name for name, data in fields.items() if not data["rare"] and not data["retired"]}
    general = {"config", "flagfile"}
    assert shown("--help") == {*everyday, *general, "helpfull"}
    assert shown("--helpfull") == {*fields, *general}
    assert shown("-h") == shown("--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_the_reference_is_there_with_its_default(golden, command):
    fields = fields_of(COMMANDS[command].GROUPS)
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


def test_a_config_yml_of_a_training_stands_for_its_folder(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(
        "written_by: x\ndataset_facts: {num_classes: 3}\ntrain: {train_logdir: elsewhere, log_steps: 7}\n"
        "dataset: {dataset_dir: records}\n"
    )
    assert parse(f"--config={path}", "--log_steps=1") == {
        "train_logdir": str(tmp_path),
        "log_steps": 1,
        "dataset_dir": "records",
    }
    assert parse(f"--config={path}", groups=(InferenceConfig,)) == {}


class TestWords:
    SEEN: tuple = ()

    def command(self, default=None):
        def run(word, given):
            TestWords.SEEN = (word, given)

        words = Word("FORMAT", lambda: {"coco": "COCO JSON", "my_own": "mine"}, default)
        return Command("build", run, lambda word: TRAIN if word == "coco" else (InferenceConfig,), "Builds.", words)

    def test_the_word_chooses_the_flags(self):
        assert self.command().main(["coco", "--log_steps=3"]) == 0
        assert TestWords.SEEN == ("coco", {"log_steps": 3})
        assert self.command().main(["My-Own", "--eval_scales=1,2"]) == 0
        assert TestWords.SEEN == ("my_own", {"eval_scales": (1.0, 2.0)})

    def test_without_words_the_choices_are_listed(self, capsys):
        for words in ([], ["--help"], ["-h"]):
            assert self.command().main(words) == 0
            out = capsys.readouterr().out
            assert "Usage: deeplab build FORMAT [--flag=value ...]" in out and "COCO JSON" in out

    def test_the_help_of_a_word_is_about_it(self, capsys):
        assert self.command().main(["coco", "--help"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("Builds. This format: COCO JSON.") and "--train_logdir=TEXT" in out

    def test_other_words(self, capsys):
        assert self.command().main(["cocoo"]) == 2
        assert "[unknown-name]\n  hint: did you mean 'coco'?" in capsys.readouterr().err
        assert self.command().main(["--log_steps=3", "coco"]) == 2
        assert "the FORMAT comes first" in capsys.readouterr().err
        assert self.command().main(["coco", "twice"]) == 2

    def test_a_default(self):
        assert self.command(lambda flags: "coco" if "log_steps" in flags else "my_own").main(["--log_steps", "3"]) == 0
        assert TestWords.SEEN == ("coco", {"log_steps": 3})


class TestExitCodes:
    def run(self, problem=None, words=()):
        def work(given):
            if problem is not None:
                raise problem

        return Command("train", work, TRAIN, "Trains.").main(words)

    def test_success(self):
        assert self.run() == 0
        assert Command("x", lambda given: 3, TRAIN, "").main([]) == 3

    def test_the_plot_backend_of_a_notebook_in_another_environment_is_none_of_its_own(self, monkeypatch):
        monkeypatch.setenv("MPLBACKEND", "module://not_installed_here.backend_inline")
        assert Command("x", lambda given: 3 if "MPLBACKEND" in os.environ else 0, TRAIN, "").main([]) == 0

    def test_an_error_is_one_line_and_a_hint(self, capsys):
        assert self.run(UserError("a-code", "`log_steps` is odd", "do `log_steps=2`", field="train_split")) == 1
        assert capsys.readouterr().err == (
            "error: --train_split: --log_steps is odd [a-code]\n  hint: do --log_steps=2\n"
        )

    @pytest.mark.parametrize(("words", "code"), [(["--lgo_steps=3"], 2), (["left"], 2), (["--log_steps=x"], 1)])
    def test_usage(self, words, code):
        assert self.run(words=words) == code

    def test_stopped(self, capsys):
        assert self.run(KeyboardInterrupt()) == 130
        assert capsys.readouterr().err == "stopped before the end\n"

    @pytest.mark.parametrize(
        ("code", "exit_code"),
        [("unfit-dataset", 3), ("worker-lost", 75), ("worker-missing", 75), ("file-not-found", 1)],
    )
    def test_some_errors_have_an_exit_code_of_their_own(self, code, exit_code):
        assert self.run(UserError(code, "see above")) == exit_code

    @pytest.mark.parametrize(
        ("problem", "code"),
        [
            (OSError(28, "No space left on device", "a/b"), "[unwritable-file]"),
            (OSError(36, "File name too long", "a" * 300), "[unreadable-file]"),
            (PermissionError(13, "Permission denied", "a/b"), "[unreadable-file]"),
            (OSError(5, "Input/output error"), "[unreadable-file]"),
            (MemoryError(), "[out-of-memory]"),
            (type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor"), "[out-of-memory]"),
            (type("ResourceExhaustedError", (Exception,), {})("x; No space left on device"), "[unwritable-file]"),
        ],
    )
    def test_what_the_machine_lacks_is_no_bug(self, problem, code, capsys):
        assert self.run(problem) == 1
        assert code in capsys.readouterr().err

    def test_a_bug_writes_a_report_without_private_texts(self, capsys, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        words = ["--dataset_dir=/home/me/secret study", "--log_steps=3"]
        assert self.run(ZeroDivisionError("in /home/me/secret study"), words) == 70
        err = capsys.readouterr().err
        (report,) = tmp_path.iterdir()
        assert err.startswith("error: ZeroDivisionError: in /home/me/secret study [internal-error]\n  hint: ")
        assert str(report) in err and "report it" in err and err.count("\n") == 2
        text = report.read_text()
        assert text.startswith("deeplab train --dataset_dir=... --log_steps=...\n") and "Traceback" in text
        assert "secret" not in text and "Python 3" in text

    def test_a_bug_on_a_full_disk(self, capsys, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", "/nowhere")
        assert self.run(ZeroDivisionError()) == 70
        assert "no room for a report" in capsys.readouterr().err


def test_all_settings_are_spelled_as_flags():
    assert {"train_crop_size", "export_path", "html", "folds", "images_per_sheet"} <= all_settings()
