"""Models on the Hugging Face Hub: `cr.load("user/name")` fetches one, `model.push_to_hub("user/name")` publishes one.

The library huggingface_hub is imported when it is first needed: most commands never talk to the Hub.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from chainrule import model_card
from chainrule.errors import ModelError

FILES = ("config.json", "model.safetensors")

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def is_repository(name: str) -> bool:
    """Whether a name can only mean a repository: `user/name`, and no folder `user` lies here.

    Example:
        >>> is_repository("someone/digits"), is_repository("digits"), is_repository("../runs/digits")
        (True, False, False)
    """
    return REPOSITORY.fullmatch(name) is not None and not Path(name).parent.is_dir()


def fetch(name: str) -> Path:
    """The folder of the Hub's cache that holds a repository's model, fetched unless it is there already.

    Raises:
        ModelError: there is no such repository, it holds no model of ours, or the Hub cannot be reached.
    """
    from huggingface_hub import errors, hf_hub_download

    try:
        config, _ = (Path(hf_hub_download(name, file, library_name="chainrule")) for file in FILES)
        return config.parent
    except (errors.RepositoryNotFoundError, errors.GatedRepoError):
        reason = "the Hub shows no repository of that name: check it, or log in with `hf auth login` if it is private"
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            reason = "the Hub cannot be reached, and the model has not been fetched before: check the connection"
        else:
            reason = "it holds no model of chainrule's, which are config.json and model.safetensors: choose another"
    except Exception as error:  # the HTTP library underneath, and so its errors, differ between the client's versions
        reason = f"the Hub cannot be used ({first_line(error)}): check the connection"
    raise ModelError(f"{name!r} is no folder here, and cannot be fetched: {reason}")


def push(model: Any, name: str, card: str | None, private: bool, licence: str | None) -> str:
    """Upload a model with its card; returns the address. See `StoredModel.push_to_hub`.

    Raises:
        ModelError: the Hub refuses it, or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="chainrule")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        card = model_card.card_of(model, name, licence) if card is None else card
        (Path(folder) / model_card.CARD).write_text(card, encoding="utf-8")
        try:
            api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload the model")
        except Exception as error:  # as in `fetch`
            raise ModelError(
                f"{name!r} cannot be published ({first_line(error)}): log in with `hf auth login`, and check the name"
            ) from None
    return f"{api.endpoint}/{name}"


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]
