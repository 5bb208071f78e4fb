"""Training: groups, exact accumulation, class weights, the best weights with their head, small checkpoints."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback

from mmadapters.adapters.adapter_fusion import add_adapter_fusion
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.artefact import Artefact, load_artefact, save_artefact
from mmadapters.backbones import load_tokenizer
from mmadapters.classifier import TextClassifier
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.evaluation.evaluator import evaluate, gate_means, predict
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, build_model, fit, position_limit
from mmadapters.training.losses import inverse_frequency_weights
from mmadapters.training.trainer import MultimodalAdapterTrainer, parameter_groups

NO_DROPOUT = {"dropout": 0.0, "feature_dropout": 0.0}
WORDS = ["war", "space", "love", "robot", "dance", "ghost"]


def rows(n: int, seed: int = 0) -> pd.DataFrame:
    """Rows whose labels are told partly by the text, partly by a vector and partly by a table column."""
    random = np.random.default_rng(seed)
    words = random.integers(0, len(WORDS), n)
    vectors = random.normal(size=(n, 6)).astype(np.float32)
    budget = random.normal(100, 30, n)
    labels = []
    for word, vector, money in zip(words, vectors, budget, strict=True):
        told = {"war": word < 3, "dark": vector[0] > 0, "big": money > 100}
        labels.append([label for label, true in told.items() if true])
    plots = [WORDS[word] for word in words]
    return pd.DataFrame({"plot": plots, "labels": labels, "vector": list(vectors), "budget": budget})


SCHEMA = DatasetSchema(
    text="plot",
    label="labels",
    modalities=(VectorColumn("poster", "vector"), TabularColumns("table", numeric=("budget",))),
)


@pytest.fixture(scope="module")
def data(tiny_backbone: Path):
    tokenizer = load_tokenizer(str(tiny_backbone))
    preprocessor = Preprocessor.fit(rows(90), SCHEMA, tokenizer)
    return preprocessor, preprocessor.transform(rows(90)), preprocessor.transform(rows(40, seed=1))


def settings_for(backbone: Path) -> ModelSettings:
    return ModelSettings(backbone=str(backbone), head_dropout=0.0)


def arguments(**options) -> MultimodalTrainingArguments:
    chosen = {
        "learning_rate": 1e-2,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 16,
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
        **options,
    }
    return MultimodalTrainingArguments(**chosen)


def adapter(preprocessor: Preprocessor, **options) -> MultimodalAdapterConfig:
    return MultimodalAdapterConfig(
        modalities=preprocessor.modalities, **{**NO_DROPOUT, "bottleneck_size": 8, **options}
    )


def test_modalities_are_learned_from_and_the_run_repeats_exactly(data, tiny_backbone: Path) -> None:
    preprocessor, train, validation = data
    lines: list[str] = []
    results = [
        fit(
            preprocessor,
            train,
            validation,
            settings=settings_for(tiny_backbone),
            adapter=adapter(preprocessor),
            arguments=arguments(num_train_epochs=8),
            report=lines.append,
        )
        for _ in range(2)
    ]
    text_only = fit(
        preprocessor,
        train,
        validation,
        settings=settings_for(tiny_backbone),
        adapter=MultimodalAdapterConfig(bottleneck_size=8, **NO_DROPOUT),
        arguments=arguments(num_train_epochs=8),
    )
    assert results[0].best_metric > 0.9
    assert results[0].best_metric > text_only.best_metric + 0.1
    first, second = (result.model.state_dict() for result in results)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(
        "training loss" in line and "micro average precision" in line and "(best so far)" in line for line in lines
    )


def test_the_best_weights_come_back_with_their_head(data, tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, train, validation = data
    # A learning rate that soars after the first epochs: the last epoch is not the best one.
    result = fit(
        preprocessor,
        train,
        validation,
        settings=settings_for(tiny_backbone),
        adapter=adapter(preprocessor),
        arguments=arguments(
            output_dir=str(tmp_path),
            num_train_epochs=6,
            learning_rate=0.3,
            warmup_steps=0.9,
            save_total_limit=None,
            early_stopping_patience=None,
            max_grad_norm=1e9,
            ema_decay=None,
        ),
    )
    values = [entry["eval_micro_average_precision"] for entry in result.log if "eval_micro_average_precision" in entry]
    assert values[-1] < max(values), "the run must get worse for this test to say anything"
    assert result.best_metric == max(values)
    best = sorted(tmp_path.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))[int(np.argmax(values))]
    saved = load_file(best / "adapter_model.safetensors")
    head = [key for key in saved if ".classifier." in key]
    assert head
    now = result.model.state_dict()
    for key, value in saved.items():
        live = key.replace(".mmadapter_blocks.", ".mmadapter_blocks.default.").replace(
            ".classifier.", ".classifier.modules_to_save.default."
        )
        assert torch.equal(now[live], value), key
    collator = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)
    predictions = predict(result.model, validation, collator, "multi_label_classification")
    again = evaluate(predictions, validation, "multi_label_classification", ["big", "dark", "war"])
    assert again.values["micro_average_precision"] == pytest.approx(result.best_metric, abs=1e-6)


def test_checkpoints_hold_adapter_and_head_only(data, tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, train, validation = data
    fit(
        preprocessor,
        train,
        validation,
        settings=settings_for(tiny_backbone),
        adapter=adapter(preprocessor),
        arguments=arguments(output_dir=str(tmp_path), num_train_epochs=1, ema_decay=None),
    )
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    weights = [path.name for path in checkpoint.glob("*.safetensors")]
    assert weights == ["adapter_model.safetensors"]
    keys = load_file(checkpoint / "adapter_model.safetensors")
    assert all(".mmadapter_blocks." in key or ".classifier." in key for key in keys)


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "single_label_classification", "regression"])
def test_accumulation_equals_one_large_batch(tiny_backbone: Path, problem_type: str) -> None:
    frame = rows(22)
    column = {
        "multi_label_classification": frame["labels"],
        "single_label_classification": frame["plot"],
        "regression": frame["budget"].where(frame.index != 3, -100.0) / 1.0,
    }[problem_type]
    frame = frame.assign(target=column)
    schema = DatasetSchema(
        text="plot", label="target", modalities=(VectorColumn("poster", "vector"),), problem_type=problem_type
    )
    preprocessor = Preprocessor.fit(frame, schema, load_tokenizer(str(tiny_backbone)))
    train = preprocessor.transform(frame)

    def trained(batch_size: int, accumulation: int) -> dict[str, torch.Tensor]:
        result = fit(
            preprocessor,
            train,
            None,
            settings=settings_for(tiny_backbone),
            adapter=adapter(preprocessor),
            arguments=arguments(
                per_device_train_batch_size=batch_size,
                gradient_accumulation_steps=accumulation,
                num_train_epochs=2,
                learning_rate=1e-3,
                optim="sgd",
                max_grad_norm=0.0,
                warmup_steps=0,
            ),
        )
        return {key: value for key, value in result.model.state_dict().items() if "default" in key}

    # 22 rows: the last window of an epoch is cut short (8+8+6) and its last batch is smaller still.
    whole, in_parts = trained(22, 1), trained(8, 3)
    for key, value in whole.items():
        torch.testing.assert_close(in_parts[key], value, rtol=1e-4, atol=1e-6, msg=key)


def test_a_regression_does_not_depend_on_the_unit_of_its_targets(tiny_backbone: Path) -> None:
    frame = rows(24)
    frame["target"] = np.stack(frame["vector"])[:, 0]
    schema = DatasetSchema(
        text="plot", label="target", modalities=(VectorColumn("poster", "vector"),), problem_type="regression"
    )

    def predicted(scale: float, shift: float) -> np.ndarray:
        scaled = frame.assign(target=frame["target"] * scale + shift)
        preprocessor = Preprocessor.fit(scaled, schema, load_tokenizer(str(tiny_backbone)))
        train = preprocessor.transform(scaled)
        result = fit(
            preprocessor,
            train,
            None,
            settings=settings_for(tiny_backbone),
            adapter=adapter(preprocessor),
            arguments=arguments(num_train_epochs=12, learning_rate=1e-2, weight_decay=0.1),
        )
        collator = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)
        return (predict(result.model, train, collator, "regression").scores - shift) / scale

    plain = predicted(1.0, 0.0)
    assert plain.std() > 0.3 * frame["target"].std()  # It has learned something that the unit could spoil.
    for scale, shift in ((1000.0, 300.0), (1e-4, 0.0)):
        np.testing.assert_allclose(predicted(scale, shift), plain, atol=0.02 * plain.std())


def test_parameter_groups(data, tiny_backbone: Path) -> None:
    preprocessor, _, _ = data
    model = build_model(preprocessor, settings_for(tiny_backbone), adapter(preprocessor))
    groups = parameter_groups(model, arguments(learning_rate=1e-3, head_learning_rate_multiplier=5.0, weight_decay=0.1))
    assert len(groups) == 4
    names = {id(p): name for name, p in model.named_parameters()}
    counted: Counter[str] = Counter()
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            counted[name] += 1
            assert group["lr"] == pytest.approx(5e-3 if ".classifier." in name else 1e-3)
            plain = name.endswith(".bias") or "layer_norm" in name
            assert group["weight_decay"] == (0.0 if plain else 0.1), name
    assert counted == Counter(name for name, p in model.named_parameters() if p.requires_grad)


def test_nothing_to_train(tiny_backbone: Path) -> None:
    model = TextClassifier.from_backbone(str(tiny_backbone), problem_type="regression").requires_grad_(False)
    with pytest.raises(ConfigurationError, match="No parameter of the model is trainable"):
        parameter_groups(model, arguments())


def test_class_weights_are_n_over_frequency() -> None:
    multi = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], dtype=np.float32)
    assert inverse_frequency_weights(multi, "multi_label_classification", 3).tolist() == [1.0, 4.0, 4.0]
    single = np.array([0, 0, 1, -100, 0])
    assert inverse_frequency_weights(single, "single_label_classification", 2).tolist() == pytest.approx([4 / 3, 4.0])
    with pytest.raises(ConfigurationError, match="regression, which has no classes"):
        inverse_frequency_weights(np.zeros(3), "regression", 1)


def test_class_weights_enter_the_loss(data, tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, train, _ = data
    model = build_model(preprocessor, settings_for(tiny_backbone), adapter(preprocessor))
    trainer = MultimodalAdapterTrainer(
        model,
        arguments(class_weights=True, output_dir=str(tmp_path)),
        problem_type="multi_label_classification",
        labels=["big", "dark", "war"],
        train_dataset=train,
    )
    expected = len(train) / train.labels.sum(axis=0)
    assert trainer.compute_loss_func.class_weights.tolist() == pytest.approx(expected.tolist())


def test_a_model_of_the_wrong_modalities_is_refused(data, tiny_backbone: Path) -> None:
    preprocessor, _, _ = data
    wrong = MultimodalAdapterConfig(modalities=list(reversed(preprocessor.modalities)))
    with pytest.raises(ConfigurationError, match="modalities=preprocessor.modalities"):
        build_model(preprocessor, settings_for(tiny_backbone), wrong)


@pytest.mark.parametrize("max_length", [65, 512])
def test_texts_longer_than_the_encoder_takes_are_refused(tiny_backbone: Path, max_length: int) -> None:
    longest = Preprocessor.fit(rows(9), SCHEMA, load_tokenizer(str(tiny_backbone)), max_length=64)
    build_model(longest, settings_for(tiny_backbone), adapter(longest))
    longer = Preprocessor.fit(rows(9), SCHEMA, load_tokenizer(str(tiny_backbone)), max_length=max_length)
    with pytest.raises(ConfigurationError, match=rf"max_length={max_length} tokens, .* positions for 64\. Set max_len"):
        build_model(longer, settings_for(tiny_backbone), adapter(longer))


def test_the_positions_of_an_encoder() -> None:
    def encoder(**embeddings: nn.Module) -> nn.Module:
        return nn.Sequential(nn.ModuleDict(embeddings))

    assert position_limit(encoder(word_embeddings=nn.Embedding(99, 4), position_embeddings=nn.Embedding(7, 4))) == 7
    assert position_limit(encoder(position_embeddings=nn.Embedding(514, 4, padding_idx=1))) == 512
    assert position_limit(encoder(word_embeddings=nn.Embedding(99, 4))) is None


# With one step the weights are large but finite, and it is the outputs that are no numbers.
@pytest.mark.parametrize("options", [{}, {"max_steps": 1, "warmup_steps": 0}])
@pytest.mark.parametrize("validated", [False, True])
def test_a_training_that_diverges_is_an_error(data, tiny_backbone: Path, validated: bool, options: dict) -> None:
    preprocessor, train, validation = data
    with pytest.raises(
        ConfigurationError,
        match=r"diverged in epoch 1: .* learning_rate=1e\+30 was given; lower it \(the default is 0\.0",
    ):
        fit(
            preprocessor,
            train,
            validation if validated else None,
            settings=settings_for(tiny_backbone),
            adapter=adapter(preprocessor),
            arguments=arguments(learning_rate=1e30, **options),
        )


class SkippedStep(TrainerCallback):
    """Logs what mixed precision does of a step whose gradients overflow."""

    def on_train_end(self, args, state, control, **kwargs) -> None:
        state.log_history.append({"grad_norm": float("inf"), "loss": 0.5, "step": 3})


def test_what_is_returned_of_mixed_precision_is_what_is_loaded_again(data, tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, train, validation = data
    settings = settings_for(tiny_backbone)
    result = fit(
        preprocessor,
        train,
        validation,
        settings=settings,
        adapter=adapter(preprocessor),
        arguments=arguments(num_train_epochs=1, bf16=True),
        callbacks=[SkippedStep()],
    )
    artefact = Artefact(result.model, preprocessor, settings)
    again = load_artefact(save_artefact(artefact, tmp_path / "model"))
    first, second = (
        predict(a.model, validation, a.collator, a.problem_type, batch_size=8).logits for a in (artefact, again)
    )
    np.testing.assert_array_equal(first, second)
    assert result.log[-1] == {"grad_norm": None, "loss": 0.5, "step": 3}
    json.dumps(result.log, allow_nan=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"remove_unused_columns": True}, "would drop the modalities"),
        ({"head_learning_rate_multiplier": 0}, "head_learning_rate_multiplier=0 must be above 0"),
        ({"early_stopping_patience": 0}, "early_stopping_patience=0 must be at least 1"),
        ({"num_train_epochs": 0}, "num_train_epochs=0 must be above 0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be 0 or more"),
        ({"per_device_eval_batch_size": 0}, "per_device_eval_batch_size=0 must be at least 1"),
        ({"gradient_accumulation_steps": -1}, "gradient_accumulation_steps=-1 must be at least 1"),
        ({"seed": -1}, "seed=-1 must be at least 0 and at most 4294967295"),
        ({"seed": 2**32}, "seed=4294967296 must be at least 0 and at most 4294967295"),
    ],
)
def test_arguments_that_cannot_be_used(options: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        arguments(**options)


@pytest.mark.parametrize(
    "options",
    [{"lr_scheduler_type": "cosin"}, {"eval_strategy": "foo"}, {"optim": "adam"}, {"save_strategy": "steps"}],
)
def test_what_transformers_refuses_is_an_error_with_its_reason(options: dict) -> None:
    with pytest.raises(ConfigurationError) as caught:
        arguments(**options)
    assert type(caught.value.__cause__) is ValueError
    assert str(caught.value) == f"MultimodalTrainingArguments: {caught.value.__cause__}"


def test_arguments_settle_the_metric() -> None:
    chosen = arguments()
    chosen.for_run("regression", has_validation=True)
    assert (chosen.metric_for_best_model, chosen.greater_is_better) == ("rmse", False)
    named = arguments(metric_for_best_model="macro_f1")
    named.for_run("multi_label_classification", has_validation=True)
    assert (named.metric_for_best_model, named.greater_is_better) == ("macro_f1", True)


def test_no_folder_appears_where_none_was_named(data, tiny_backbone: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    preprocessor, train, _ = data
    fit(
        preprocessor,
        train,
        None,
        settings=settings_for(tiny_backbone),
        adapter=adapter(preprocessor),
        arguments=arguments(num_train_epochs=1),
    )
    assert not list(tmp_path.iterdir())


def test_gate_means_leave_missing_examples_out(data, tiny_backbone: Path) -> None:
    preprocessor, _, _ = data
    frame = rows(12)
    frame["vector"] = [None if i % 3 == 0 else v for i, v in enumerate(frame["vector"])]
    dataset = preprocessor.transform(frame)
    model = build_model(preprocessor, settings_for(tiny_backbone), adapter(preprocessor))
    assert isinstance(model, PeftModel)
    collator = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)
    predictions = predict(model, dataset, collator, "multi_label_classification", batch_size=5, output_gates=True)
    means = gate_means(predictions, dataset, model.base_model.site_layers)
    assert means.names == ["text", "poster", "table"]
    assert means.layers == [0, 1]
    present = dataset.present("poster")
    assert present.sum() == 8
    expected = predictions.gates[present][:, 2:4, 1].mean()
    assert means.by_layer[1, 1] == pytest.approx(expected, abs=1e-6)
    assert (predictions.gates[~present][:, :, 1] == 0).all()


def test_gate_means_of_an_adapter_fusion_are_its_members(data, tiny_backbone: Path) -> None:
    preprocessor, train, _ = data
    poster, table = preprocessor.modalities
    model = build_model(preprocessor, settings_for(tiny_backbone), adapter(preprocessor))
    model.add_adapter("one", MultimodalAdapterConfig(modalities=[poster], bottleneck_size=8, task_type="SEQ_CLS"))
    model.add_adapter("two", MultimodalAdapterConfig(modalities=[table], bottleneck_size=8, task_type="SEQ_CLS"))
    add_adapter_fusion(model, "fused", ["one", "two"])
    collator = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)
    predictions = predict(model, train, collator, "multi_label_classification", output_gates=True)
    means = gate_means(predictions, train, model.base_model.site_layers, model.base_model.gate_names)
    assert means.names == ["one", "two"]
    assert means.by_layer.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)
    with pytest.raises(DataError, match="hold 2 gates a site, the names are 'text', 'poster', 'table'"):
        gate_means(predictions, train, model.base_model.site_layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric_for_best_model": "micro_average_precison"}, r"no metric of multi.*Did you mean 'micro_average_prec"),
        ({"metric_for_best_model": "rmse"}, r"'rmse' is no metric of multi_label_classification"),
    ],
)
def test_a_metric_that_is_never_computed_is_refused_before_training(
    data, tiny_backbone: Path, options: dict, message: str
) -> None:
    preprocessor, train, validation = data
    with pytest.raises(ConfigurationError, match=message):
        fit(
            preprocessor,
            train,
            validation,
            settings=settings_for(tiny_backbone),
            adapter=adapter(preprocessor),
            arguments=arguments(**options),
        )


def test_the_best_epoch_may_be_chosen_by_the_loss() -> None:
    named = arguments(metric_for_best_model="loss")
    named.for_run("multi_label_classification", has_validation=True)
    assert (named.metric_for_best_model, named.greater_is_better) == ("loss", False)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_model_learns_what_the_eager_one_does(data, tiny_backbone: Path) -> None:
    preprocessor, train, validation = data
    settings = replace(settings_for(tiny_backbone), head_dropout=0.0)
    logits = []
    for compiled in (False, True):
        result = fit(
            preprocessor,
            train,
            validation,
            settings=settings,
            adapter=adapter(preprocessor, **NO_DROPOUT),
            arguments=arguments(num_train_epochs=2, torch_compile=compiled),
        )
        artefact = Artefact(result.model, preprocessor, settings)
        logits.append(predict(artefact.model, validation, artefact.collator, artefact.problem_type).logits)
        assert all("_orig_mod" not in name for name in result.model.state_dict())
    np.testing.assert_allclose(logits[1], logits[0], atol=2e-4)
