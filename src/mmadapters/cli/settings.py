"""A strict loader for runs: YAML into dataclasses, every problem reported at once, nothing misspelt accepted."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from mmadapters.errors import ConfigurationError, did_you_mean, listed

Settings = TypeVar("Settings")
_ABSENT = object()


_NOT_CONSTRUCTED = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")
"""Tags of the keys ``<<`` and ``=``, which stand for no value."""


class _StrictLoader(yaml.SafeLoader):
    """``yaml.SafeLoader`` that refuses a key given twice, and says where a value is that it cannot read."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._flattened: set[yaml.MappingNode] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Merged keys stand in the node afterwards, where the mapping's own keys may repeat them.
        if node not in self._flattened:
            self._flattened.add(node)
            self._refuse_repeated_keys(node)
            super().flatten_mapping(node)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"'{node.value}' cannot be read as a value of the kind '{kind}'; put text in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error

    def _refuse_repeated_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key_node, _ in node.value:
            constructed = key_node.tag not in _NOT_CONSTRUCTED
            key = self.construct_object(key_node, deep=True) if constructed else key_node.value
            if not isinstance(key, Hashable):
                problem = f"{key!r} cannot be a key; put text with brackets or braces in quotes"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key}' is given twice", problem_mark=key_node.start_mark)
            seen.add(key)


class _Dumper(yaml.SafeDumper):
    """``yaml.SafeDumper`` whose text is read back as it was."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Outside double quotes YAML 1.1 reads U+0085 as the end of a line.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _represent_text)


def load_settings(cls: type[Settings], path: Path | None, overrides: Sequence[str] = ()) -> Settings:
    """Read settings.

    Args:
        cls: The dataclass to fill. Fields may be dataclasses, dictionaries of them, unions, literals and plain values.
        path: A YAML file, or None for defaults and overrides only.
        overrides: ``section.key=value`` each, the value being YAML; they win over the file.

    Raises:
        ConfigurationError: If the file cannot be read, or with a list of every unknown key and unfitting value.
    """
    content = _read(path) if path is not None else {}
    for override in overrides:
        _apply(content, override)
    return settings_from(cls, content, f"'{path}'" if path is not None else "The settings")


def settings_from(cls: type[Settings], content: Mapping[str, Any], name: str = "The settings") -> Settings:
    """Make settings of plain values.

    Args:
        cls: The dataclass to fill, as of ``load_settings``.
        content: Values by field.
        name: Where they come from, for messages.

    Raises:
        ConfigurationError: With a list of every unknown key and unfitting value.
    """
    problems: list[str] = []
    settings = _build(cls, content, "", problems)
    if problems:
        raise ConfigurationError(f"{name} cannot be used:\n" + "\n".join(f"- {problem}" for problem in problems))
    return cast(Settings, settings)


def coerce_options(section: str, cls: type, options: Mapping[str, Any], exclude: Iterable[str] = ()) -> dict[str, Any]:
    """Check a free section against the fields of a dataclass, and bring its values to the fields' types.

    Args:
        section: Its name, for messages.
        cls: The dataclass whose fields are accepted.
        options: The section.
        exclude: Fields that are not accepted.

    Raises:
        ConfigurationError: With a list of every unknown key and unfitting value.
    """
    accepted = {f.name for f in dataclasses.fields(cls) if f.init} - set(exclude)
    hints = get_type_hints(cls)
    problems: list[str] = []
    checked = {}
    for name, value in options.items():
        if name not in accepted:
            problems.append(_unknown(f"{section}.{name}", name, sorted(accepted)))
        else:
            checked[name] = _coerce(hints[name], value, f"{section}.{name}", problems)
    if problems:
        raise ConfigurationError(
            f"The section '{section}' cannot be used:\n" + "\n".join(f"- {problem}" for problem in problems)
        )
    return checked


def to_yaml(settings: Any) -> str:
    """Return settings as YAML, fields in their order, that ``load_settings`` reads back to an equal object.

    Args:
        settings: A dataclass of plain values.
    """
    return yaml.dump(_plain(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"The file '{path}' cannot be read: {error.strerror}. Name a YAML file.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"'{path}' is no valid YAML: {error}. Save it as UTF-8.") from error
    content = _parsed(text, f"'{path}'")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"'{path}' holds a {type(content).__name__}. It must be a mapping: `key: value` lines."
        )
    return content


def _parsed(text: str, name: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigurationError(f"{name} is no valid YAML{where}: {reason}.") from error


def _apply(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigurationError(f"--set {override!r} is malformed. Write it as section.key=value.")
    value = _parsed(text, f"--set {override!r}: the value")
    place = content
    for key in keys[:-1]:
        if not isinstance(place.get(key), dict):
            place[key] = {}
        place = place[key]
    place[keys[-1]] = value


def _build(cls: type, content: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(content, Mapping):
        problems.append(f"{where or 'the file'} is {content!r}; expected is a mapping of keys to values.")
        return None
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    before = len(problems)
    problems += [_unknown(_join(where, key), str(key), list(fields)) for key in content if key not in fields]
    values = {}
    for name, field in fields.items():
        if name in content:
            values[name] = _coerce(hints[name], content[name], _join(where, name), problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{_join(where, name)} is missing: {field.metadata.get('help', 'it is required')}.")
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except ConfigurationError as error:
        problems.append(f"{where}: {error}" if where else str(error))
        return None


def _coerce(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    """Return ``value`` as the type says, or report a problem and return None."""
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _build(cast(type, hint), value, where, problems)
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _coerce_union(hint, value, where, problems)
    if origin is Literal:
        choices = get_args(hint)
        if value not in choices:
            nearest = did_you_mean(str(value), [str(choice) for choice in choices])
            problems.append(f"{where} is {value!r}; accepted are {listed(map(str, choices))}.{nearest}")
        return value
    if origin in (dict, Mapping) or hint is dict:
        return _coerce_mapping(hint, value, where, problems)
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        return _coerce_sequence(hint, value, where, problems)
    converted = _scalar(hint, value)
    if converted is _ABSENT:
        problems.append(f"{where} is {value!r}; expected is {_described(hint)}.")
    return converted


def _coerce_union(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    members = get_args(hint)
    if value is None and type(None) in members:
        return None
    members = tuple(member for member in members if member is not type(None))
    # The member whose type the value already has comes first, so that nothing is converted without need.
    exact = [m for m in members if isinstance(m, type) and type(value) is m]
    attempts: list[str] = []
    for member in [*exact, *members]:
        attempts = []
        converted = _coerce(member, value, where, attempts)
        if not attempts:
            return converted
    problems += attempts if len(members) == 1 else [f"{where} is {value!r}; expected is {_described(hint)}."]
    return None


def _coerce_mapping(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{where} is {value!r}; expected is a mapping of keys to values.")
        return None
    inner = (get_args(hint) or (str, Any))[1]
    return {str(key): _coerce(inner, entry, _join(where, key), problems) for key, entry in value.items()}


def _coerce_sequence(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, list | tuple):
        problems.append(f"{where} is {value!r}; expected is a list.")
        return None
    inner = (get_args(hint) or (Any,))[0]
    entries = [_coerce(inner, entry, f"{where}[{index}]", problems) for index, entry in enumerate(value)]
    return tuple(entries) if get_origin(hint) is tuple or hint is tuple else entries


def _scalar(hint: Any, value: Any) -> Any:
    if hint is type(None):
        return None if value is None else _ABSENT
    if hint is bool:
        return value if isinstance(value, bool) else _ABSENT
    if hint is int:
        return _whole_number(value)
    if hint is float:
        return _number(value)
    if hint is str:
        return value if isinstance(value, str) else _ABSENT
    if hint is Path:
        return Path(value) if isinstance(value, str) else _ABSENT
    return value if not isinstance(hint, type) or isinstance(value, hint) else _text_of(hint, value)


def _whole_number(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    number = _number(value)
    return int(number) if number is not _ABSENT and number.is_integer() else _ABSENT


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return _ABSENT
    try:
        # YAML 1.1 reads 1e-4, without a dot, as text.
        return float(value)
    except (ValueError, OverflowError):
        return _ABSENT


def _text_of(hint: type, value: Any) -> Any:
    """Return text for a class that is made from it, such as an enumeration's member by its value."""
    try:
        hint(value)
    except (ValueError, TypeError):
        return _ABSENT
    return value


def _described(hint: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_described(member) for member in get_args(hint))
    if get_origin(hint) in (list, tuple, Sequence):
        return "a list"
    if get_origin(hint) in (dict, Mapping) or hint is dict:
        return "a mapping"
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _unknown(path: str, name: str, accepted: Sequence[str]) -> str:
    return f"{path} is unknown.{did_you_mean(name, accepted)} Accepted are {listed(accepted)}."


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
