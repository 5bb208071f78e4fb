"""What requests and answers look like: pydantic models, of which the OpenAPI document is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

LONGEST_NAME = 200
MOST_CELLS = 1000

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
# 1 is a number, too; "1", NaN and infinity are none.
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Vector = Annotated[list[Number], Field(min_length=1)]
Features = Vector | Annotated[list[Vector], Field(min_length=1)]
Scalar = bool | int | Number | Annotated[str, Field(max_length=10_000)]
Cell = Scalar | Annotated[list[Scalar | None], Field(max_length=MOST_CELLS)] | None


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FeatureRow(_Given):
    """One row of vectors. What is absent or null is missing, and the model does without."""

    text: str | None = Field(None, description="The text.", examples=["A robot falls in love."])
    text_pair: str | None = Field(None, description="The second text, for models that read pairs.")
    features: dict[Name, Features | None] = Field(
        default_factory=dict,
        max_length=100,
        description="By modality a vector, or a list of vectors for a sequence such as frames.",
        examples=[{"poster": [0.12, -0.5, 1.25]}],
    )
    table: dict[Name, Cell] = Field(
        default_factory=dict,
        max_length=MOST_CELLS,
        description="Cells by table column.",
        examples=[{"year": 1994, "country": "fr", "actors": ["Ann Lee", "Bo Díaz"]}],
    )


class FeaturesRequest(_Given):
    """Rows of vectors for one model."""

    model: Name | None = Field(None, description="Name of the model; the default where absent.")
    rows: list[FeatureRow] = Field(min_length=1, description="The rows.")


class RowPrediction(BaseModel):
    """What a model says of a row."""

    prediction: str | list[str] | float = Field(
        description="The label; the list of labels of a multi-label model; the value of a regression."
    )
    probabilities: dict[str, float] | None = Field(description="By label; null for a regression.")
    missing: list[str] = Field(description="Modalities that the row lacked.")
    notes: list[str] = Field(description="What of the row could not be used as it was given.")


class PredictionResponse(BaseModel):
    """Predictions in the order of the rows."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "genres",
                    "predictions": [
                        {
                            "prediction": ["comedy", "romance"],
                            "probabilities": {"comedy": 0.81, "romance": 0.66, "war": 0.02},
                            "missing": ["trailer"],
                            "notes": [],
                        }
                    ],
                }
            ]
        }
    )

    model: str
    predictions: list[RowPrediction]


class SourceShare(BaseModel):
    """How much of the adapters' updates comes from a source."""

    layers: dict[str, float] = Field(description="By layer, counted from 0, the mean share over its sites.")
    mean: float = Field(description="The mean share over all sites.")
    present: bool = Field(description="Whether the row has it.")


class Without(BaseModel):
    """What changes without a modality."""

    prediction: str | list[str] | float
    probabilities: dict[str, float] | None
    change: float = Field(description="Of the scores, absolute, a mean over labels.")


class ExplanationResponse(BaseModel):
    """What a model looked at in a row."""

    model: str
    prediction: RowPrediction
    shares: dict[str, SourceShare] = Field(
        description="By source: the text and each modality, or the members of an AdapterFusion."
    )
    gates: dict[str, dict[str, float]] | None = Field(
        description="By source and layer the mean gate; null where the fusion has no gates."
    )
    without: dict[str, Without] = Field(description="By modality, for those that the row has.")


class ModalityInfo(BaseModel):
    """What a model reads beside the text."""

    name: str
    kind: str = Field(description="What it is made from: image, video, audio, tabular or vector.")
    width: int = Field(description="Numbers of a vector, or of a step of a sequence.")
    accepts: list[Literal["features", "file", "table"]] = Field(description="How it can be given.")
    columns: list[str] = Field(description="Its table columns, or the column that its file was in at the training.")


class ModelInfo(BaseModel):
    """A model."""

    name: str
    default: bool
    problem_type: str
    labels: list[str]
    thresholds: dict[str, float] | None = Field(description="Multi-label: the probability from which a label is given.")
    texts: list[str] = Field(description="Text columns of the training rows: one, or two of a pair.")
    modalities: list[ModalityInfo]
    fusion: str
    max_tokens: int = Field(description="Tokens that a text is cut to.")
    backbone: str
    backbone_digest: str = Field(description="SHA-256 of the backbone's weights.")
    digest: str = Field(description="SHA-256 of the file with adapters and head.")
    parameters: dict[str, int]
    size_bytes: int = Field(description="Of the model's folder, without backbone.")
    license: str | None
    metrics: dict[str, dict[str, float | None]] = Field(description="What was measured when it was trained, by split.")
    shares_backbone_with: list[str]


class ModelsResponse(BaseModel):
    """What is served."""

    models: list[ModelInfo]


class Health(BaseModel):
    """Whether the server works."""

    live: bool = Field(description="Whether the process answers.")
    ready: bool = Field(description="Whether it takes requests; false while it starts and shuts down.")
    models: int
    queue_rows: int = Field(description="Rows that wait.")
    version: str = Field(description="Of mmadapters.")


class ProblemPart(BaseModel):
    """One thing that is wrong with a request."""

    where: list[str | int] = Field(description="The way to it: body, rows, 0, features, poster.")
    message: str


class Problem(BaseModel):
    """Why a request was not answered as it wished (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What was given, what is accepted and what to change.")
    request_id: str
    errors: list[ProblemPart] = Field(default_factory=list)


def form_schema(files: dict[str, str], model_names: list[str]) -> dict[str, Any]:
    """Return the JSON schema of the forms of ``/predict`` and ``/explain``.

    Args:
        files: By field what it takes.
        model_names: The models.
    """
    own = ("model", "text", "text_pair", "table", "features")
    binary = {name: {"type": "string", "format": "binary", "description": text} for name, text in files.items()}
    json_object = {"type": "string", "contentMediaType": "application/json"}
    return {
        "type": "object",
        "properties": {
            "model": {"type": "string", "enum": model_names, "description": "The model; the default where absent."},
            "text": {"type": "string", "description": "The text.", "example": "A robot falls in love."},
            "text_pair": {"type": "string", "description": "The second text, for models that read pairs."},
            "table": {**json_object, "description": "Cells by table column, as JSON.", "example": '{"year": 1994}'},
            "features": {**json_object, "description": "Vectors by modality, as JSON."},
            **{name: schema for name, schema in binary.items() if name not in own},
        },
        "additionalProperties": False,
    }
