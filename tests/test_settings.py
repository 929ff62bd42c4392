"""Flags, environment and place of running: what each gives, and that nothing is open by accident."""

import pytest

from modules import settings as room
from modules.settings import FLAGS, PUBLIC_LIMITS, Settings, share_cores


def settings(*argv: str, **environ: str) -> Settings:
    return Settings.from_args(argv, environ)


def test_alone_on_this_computer_by_default():
    made = settings()
    assert (made.where, made.host, made.public, made.share, made.auth) == (
        "local",
        "127.0.0.1",
        False,
        False,
        None,
    )
    assert made.notes == ()
    assert made.output_dir.name == "outputs"


def test_a_share_link_always_has_a_password():
    first, second = settings("--share"), settings("--share")
    assert first.auth is not None
    assert second.auth is not None
    assert len(first.auth[1]) >= 12
    assert first.auth != second.auth
    assert any(first.auth[1] in note for note in first.notes)
    assert settings("--share", "--password", "").auth is not None


def test_a_given_password_is_used_and_not_printed():
    made = settings("--share", EPSILON_PASSWORD="correct horse")
    assert made.auth == ("studio", "correct horse")
    assert "correct horse" not in " ".join(made.notes)
    assert "correct horse" not in repr(made)


def test_a_flag_wins_over_its_variable():
    assert settings(EPSILON_PORT="8000", EPSILON_OFFLINE="1").port == 8000
    assert settings(EPSILON_OFFLINE="1").offline
    assert settings("--port", "9000", EPSILON_PORT="8000").port == 9000
    assert not settings("--no-offline", EPSILON_OFFLINE="1").offline


def test_public_tightens_limits():
    made = settings("--public")
    assert made.limits == PUBLIC_LIMITS
    assert made.queue_size < settings().queue_size
    assert made.keep_seconds is not None
    assert settings().limits == {}


def test_a_classroom_is_public_and_tighter_still():
    made, public = settings("--classroom"), settings("--public")
    assert made.public
    assert made.classroom
    for name, tighter in made.limits.items():
        assert tighter.maximum < public.limits[name].maximum, name
    assert made.queue_size >= 2 * 30  # two pictures of everyone in a class
    assert made.keep_seconds == 8 * 3600
    assert made.output_dir == public.output_dir


@pytest.mark.parametrize(
    ("environ", "where"),
    [({"SPACE_ID": "someone/studio"}, "spaces"), ({"SPACE_ID": "a/b", "SPACES_ZERO_GPU": "true"}, "zerogpu")],
)
def test_a_space_is_public_and_reachable(environ, where):
    made = settings("--share", **environ)
    assert (made.where, made.host, made.public, made.share) == (where, "0.0.0.0", True, False)
    assert any("--share does nothing on Spaces" in note for note in made.notes)


def test_an_open_door_is_mentioned():
    assert any("Anyone who can reach 0.0.0.0" in note for note in settings("--host", "0.0.0.0").notes)
    assert settings("--host", "0.0.0.0", "--password", "x").notes == ()
    for host in ("localhost", "127.0.0.2", "::1"):
        assert settings("--host", host).notes == ()


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (["--port", "0"], {}, "--port: '0' is not a whole number from 1 to 65535"),
        ([], {"EPSILON_PORT": "99999"}, "EPSILON_PORT: '99999' is not a whole number"),
        ([], {"EPSILON_PUBLIC": "maybe"}, "EPSILON_PUBLIC: 'maybe' is neither yes nor no"),
        (["--device", "tpu"], {}, "--device: 'tpu' is not one of auto, cpu, cuda, mps, xpu"),
        (["--device", "cuda:"], {}, "--device"),
        (["--dtype", "int8"], {}, "--dtype: 'int8' is not one of auto, float32, bfloat16, float16"),
        (["--share", "--offline"], {}, "choose one"),
    ],
)
def test_nonsense_is_refused_in_words(argv, environ, words, capsys):
    with pytest.raises(SystemExit) as end:
        Settings.from_args(argv, environ)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_mcp_says_what_it_needs(monkeypatch, capsys):
    assert Settings.from_args(["--mcp"], {}).mcp
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        Settings.from_args(["--mcp"], {})
    assert 'pip install "mcp<2"' in capsys.readouterr().err
    assert not Settings.from_args([], {}).mcp


def test_help_shows_every_flag(capsys):
    with pytest.raises(SystemExit) as end:
        settings("--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for flag in FLAGS:
        assert f"--{flag.name}" in shown
        assert flag.help


def test_outputs_go_where_they_are_sent(tmp_path):
    assert settings("--outputs", str(tmp_path)).output_dir == tmp_path
    assert settings("--public", "--outputs", str(tmp_path)).output_dir == tmp_path / "public"
    assert "epsilon-studio" in str(settings("--public").output_dir)


def test_adapters_lie_beside_app_or_where_one_says(tmp_path):
    assert settings().adapters.name == "adapters"
    assert settings("--adapters", str(tmp_path)).adapters == tmp_path.resolve()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "9"}, {"GOMP_SPINCOUNT": "9"}),
        ({"KMP_BLOCKTIME": "0"}, {"KMP_BLOCKTIME": "0"}),
    ],
)
def test_idle_threads_sleep_unless_the_user_says_how_they_wait(given, expected):
    environ = dict(given)
    share_cores(environ)
    assert environ == expected
