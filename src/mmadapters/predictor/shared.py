"""A predictor to the Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mmadapters.hub.upload import Uploaded
from mmadapters.predictor.estimator import PredictorEstimator
from mmadapters.predictor.saved import save_predictor
from mmadapters.sharing import push_to_hub


class SharedPredictor(PredictorEstimator):
    """What ``MultimodalPredictor`` has for sharing; how it is read is on the class itself."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        license: str | None = None,
        revision: str | None = None,
        message: str | None = None,
        backbone: str | None = None,
        token: str | None = None,
    ) -> Uploaded:
        """Upload the trained model to the Hub: safetensors, JSON and a model card; see ``mmadapters.sharing``.

        Args:
            repo_id: ``user/name``; made where it does not exist.
            private: Whether nobody else may see it.
            license: Of adapters and head, such as ``apache-2.0``.
            revision: Branch to upload to, made where it does not exist; None for the main branch.
            message: Of the commit.
            backbone: Name on the Hub of the text encoder, where it was trained in a local folder.
            token: Of a user who may write; None for the one of ``hf auth login`` or ``HF_TOKEN``.

        Returns:
            Where it is.

        Raises:
            UnfittedPredictorError: Before ``fit``.
            ArtefactError: If the model cannot be shared.
            HubError: If the Hub refuses or is not reached.
        """
        self._require_fit()
        with tempfile.TemporaryDirectory(prefix="mmadapters-") as temporary, self._messages().quiet_libraries():
            folder = save_predictor(self.artefact_, Path(temporary) / "artefact")
            return push_to_hub(
                folder,
                repo_id,
                private=private,
                license=license,
                revision=revision,
                message=message,
                backbone=backbone,
                token=token,
            )
