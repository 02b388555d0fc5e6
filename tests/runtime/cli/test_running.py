"""The commands that ask a running program, by its address and a token."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import attrs
import trio
import trustme
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from trivet import (
    App,
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    OperatorActionEvent,
    Runtime,
    Secret,
    StallSettings,
    Status,
    StoreSettings,
    SupervisionSettings,
    TlsSettings,
    TokenSettings,
    _cli,
    listening,
)
from trivet._store._dead_letters import DeadLetters
from trivet.testing import open_plugins, serving

TOKEN = "a-token-of-an-operator"
TOKENS: Any = [
    TokenSettings(name="operator", scopes=["admin", "ingest"], secret=Secret(TOKEN)),
]


class Paid(Event):
    amount: int = 0


class Ledger(EventPlugin[Paid]):
    """A durable subscriber that gives every event above 100 up."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True, max_attempts=1)

    def __init__(self, app: App) -> None:
        self.paid: list[int] = []

    async def handle_event(self, event: Paid) -> None:
        if event.amount > 100:
            raise ValueError("no ink")
        self.paid.append(event.amount)


class Disk(BackgroundPlugin):
    supervision = SupervisionSettings(critical=True)


class Auditor(EventPlugin[OperatorActionEvent]):
    def __init__(self, app: App) -> None:
        self.seen: list[OperatorActionEvent] = []

    async def handle_event(self, event: OperatorActionEvent) -> None:
        self.seen.append(event)


@attrs.frozen
class Shell:
    """A shell in which a running program is asked."""

    runtime: Runtime
    environ: dict[str, str | None]

    async def run(
        self, *arguments: str, said: str = "", environ: dict[str, str | None] | None = None
    ) -> Result:
        """Run `trivet`, in a thread."""
        call = partial(
            CliRunner().invoke,
            _cli.main,
            arguments,
            env={**self.environ, **(environ or {})},
            input=said,
            prog_name="trivet",
        )
        return await trio.to_thread.run_sync(call)

    async def done(
        self, *arguments: str, said: str = "", environ: dict[str, str | None] | None = None
    ) -> str:
        """The output of a command that ends well."""
        result = await self.run(*arguments, said=said, environ=environ)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout


@asynccontextmanager
async def opened(directory: Path) -> AsyncGenerator[Shell]:
    """A program that is served, and a shell to ask it in."""
    store = StoreSettings(path=directory / "store.db")
    with capture_logs():  # Its lines would be among those of the commands.
        async with (
            open_plugins(Ledger, Disk, Auditor, tokens=TOKENS, store=store) as runtime,
            serving(runtime) as url,
        ):
            yield Shell(runtime, {"TRIVET_URL": url, "TRIVET_TOKEN": TOKEN, "TRIVET_CONFIG": None})


async def test_orders_to_a_plugin(here: Path) -> None:
    """Each order is carried out, says what has become of it, and is an event with its reason."""
    async with opened(here) as shell:
        ledger = shell.runtime.host("ledger")
        said = await shell.done("pause", "ledger", "--reason", "no paper")
        assert said == "ledger is running, and delivery is paused\n"
        assert ledger.is_paused
        document = json.loads(await shell.done("resume", "ledger", "--json"))
        assert document == {"plugin": "ledger", "status": "running", "paused": False}
        await shell.done("disable", "ledger")
        await ledger.wait_for_status(Status.DISABLED)
        assert await shell.done("disable", "ledger") == "ledger is disabled\n"
        assert await shell.done("enable", "ledger") == "ledger is starting\n"
        await ledger.wait_for_status(Status.RUNNING)
        assert await shell.done("restart", "ledger") == "ledger is stopping\n"
        with trio.fail_after(20):
            while ledger.restarts < 2:
                await trio.lowlevel.checkpoint()
        auditor = shell.runtime.get(Auditor)
    assert [(event.action, event.token, event.reason) for event in auditor.seen] == [
        ("pause", "operator", "no paper"),
        ("resume", "operator", None),
        ("disable", "operator", None),
        ("enable", "operator", None),
        ("restart", "operator", None),
    ]


async def test_a_token_that_is_missing(here: Path) -> None:
    """The refusal says how a command is given a token."""
    async with opened(here) as shell:
        result = await shell.run("plugins", environ={"TRIVET_TOKEN": None})
        assert result.exit_code == 1
        assert "set TRIVET_TOKEN, or give --token-file" in result.stderr
        result = await shell.run("plugins", environ={"TRIVET_TOKEN": "another"})
        assert (result.exit_code, "TRIVET_TOKEN" in result.stderr) == (1, False)


async def test_a_refusal(here: Path) -> None:
    """An order that is refused has the program's reason on standard error, and exit code 1."""
    async with opened(here) as shell:
        for arguments, why in (
            (["disable", "disk"], "trivet: plugin 'disk' is critical: the service would not be"),
            (["pause", "disk"], "trivet: plugin 'disk' takes no events"),
            (["restart", "ledgr"], "did you mean 'ledger'?"),
            (["log-level", "ledger", "debug"], "the code around Trivet has configured the log"),
            (["publish", "payd"], "paid"),
        ):
            result = await shell.run(*arguments, said="{}")
            assert (result.exit_code, result.stdout) == (1, "")
            assert why in result.stderr
        result = await shell.run("plugins", environ={"TRIVET_TOKEN": "another-token-of-nobody"})
        assert (result.exit_code, "(401 unauthorized)" in result.stderr) == (1, True)


async def test_what_runs(here: Path) -> None:
    """The plugins, one of them, the tasks and the diagnostics are printed."""
    async with opened(here) as shell:
        head, *rows = (await shell.done("plugins")).splitlines()
        assert head.split() == ["PLUGIN", "STATUS", "SINCE", "RESTARTS", "ERROR"]
        assert [row.split()[:2] for row in rows] == [
            ["auditor", "running"],
            ["disk", "running"],
            ["ledger", "running"],
        ]
        listed = json.loads(await shell.done("plugins", "--json"))
        assert listed["plugins"].keys() == {"auditor", "disk", "ledger"}
        one = json.loads(await shell.done("plugins", "ledger"))
        assert (one["listens_to"], one["durable"]) == (["paid"], True)
        head, process, *rows = (await shell.done("tasks")).splitlines()
        assert head.split() == ["TASK", "AGE", "ENDS", "STANDS", "AT"]
        assert process.startswith("process ")
        plugins = [row.split(":")[0].strip() for row in rows if row[2] != " "]
        assert plugins == ["(service)", "auditor", "disk", "ledger"]
        tasks = json.loads(await shell.done("tasks", "disk", "--json"))
        listed = {name for name, found in tasks["plugins"].items() if found["tasks"]}
        assert listed == {"disk"}
        account = json.loads(await shell.done("diagnostics"))
        await shell.done("diagnostics", "--output", str(here / "account.json"))
        assert json.loads((here / "account.json").read_text()).keys() == account.keys()
        assert TOKEN not in (here / "account.json").read_text()


async def test_stalls(here: Path) -> None:
    """The stalls are a table; the profile of one is the document for speedscope, unchanged."""
    document = {"profiles": [{"name": "disk: 1.5 s"}]}
    with capture_logs():
        async with (
            open_plugins(Disk, tokens=TOKENS, stalls=StallSettings(warn=20, error=20)) as runtime,
            serving(runtime) as url,
        ):
            shell = Shell(runtime, {"TRIVET_URL": url, "TRIVET_TOKEN": TOKEN})
            assert runtime.meter is not None
            assert json.loads(await shell.done("stalls", "--json")) == {"stalls": []}
            runtime.meter.kept.keep(
                plugin="disk",
                began=perf_counter(),
                seconds=1.5,
                doing="computing",
                task="spin",
                at="/shop/disk.py:7",
                document=json.dumps(document).encode(),
            )
            head, row = (await shell.done("stalls")).splitlines()
            assert head.split() == ["NUMBER", "PLUGIN", "BEGAN", "HELD", "DOING", "AT"]
            number, plugin, _, *rest = row.split()
            assert [number, plugin, *rest] == [
                *("1", "disk", "1.5", "s", "computing", "/shop/disk.py:7")
            ]
            assert json.loads(await shell.done("stalls", "1")) == document
            refused = await shell.run("stalls", "2")
            assert (refused.exit_code, "(404 unknown_stall)" in refused.stderr) == (1, True)


async def test_events_are_published(here: Path) -> None:
    """An event comes from standard input or a file, and many of them line by line."""
    async with opened(here) as shell:
        said = await shell.done("publish", "paid", "--wait", said='{"amount": 1}')
        assert said.endswith(": ledger handled\n")
        file = here / "paid.json"
        file.write_text('{"amount": 2}')
        document = json.loads(await shell.done("publish", "paid", str(file), "--wait", "--json"))
        assert (document["event"], document["fates"]) == ("paid", {"ledger": "handled"})
        many = "".join(f'{{"amount": {number}}}\n' for number in range(3, 101))
        document = json.loads(await shell.done("publish", "paid", "-", "--lines", said=many))
        assert document["fates"] == {"ledger": {"queued": 98}}
        failed = await shell.run("publish", "paid", "--wait", said='{"amount": 1000}')
        assert (failed.exit_code, "(500 dead_lettered)" in failed.stderr) == (1, True)
        wrong = await shell.run("publish", "paid", said='{"amount": "much"}')
        assert (wrong.exit_code, "$.amount" in wrong.stderr) == (1, True)


async def test_dead_letters_of_a_running_program(here: Path) -> None:
    """Dead letters are searched, shown, replayed and purged at the program itself."""
    async with opened(here) as shell:
        for amount in (101, 102, 103):
            await shell.runtime.publish(Paid(amount=amount), wait=True)
        with DeadLetters(here / "store.db") as letters, trio.fail_after(20):
            while letters.count() < 3:  # The last one is written soon.
                await trio.lowlevel.checkpoint()
        head, *rows = (await shell.done("dead-letters", "list", "--text", "ink")).splitlines()
        assert head.split()[0] == "NUMBER"
        assert [row.split()[0] for row in rows] == ["1", "2", "3"]
        assert "no dead letters" in await shell.done("dead-letters", "list", "--until", "1d")
        limited = await shell.run("dead-letters", "list", "--limit", "2", "--json")
        lines = [json.loads(line) for line in limited.stdout.splitlines()]
        assert [line["number"] for line in lines] == [2, 3]
        assert limited.stderr == "and 1 older; --limit 3 lists all\n"
        letter = json.loads(await shell.done("dead-letters", "show", "2"))
        assert letter["payload"] == {"amount": 102}
        said = await shell.done("dead-letters", "purge", "1", "3", "--reason", "of no use")
        assert said == "2 dead letters thrown away\n"
        unknown = await shell.run("dead-letters", "purge", "1")
        assert (unknown.exit_code, "there is no dead letter 1" in unknown.stderr) == (1, True)
        said = await shell.done("dead-letters", "replay", "--event", "paid", "--plugin", "ledger")
        assert said == "1 dead letter put back into the queues\n"
        assert await shell.done("dead-letters", "replay", "--all") != ""
        auditor = shell.runtime.get(Auditor)
    assert [(event.action, event.plugin, event.reason) for event in auditor.seen][:2] == [
        ("purge dead letters", None, "of no use"),
        ("replay dead letters", "ledger", None),
    ]


async def test_ways_to_the_program(here: Path) -> None:
    """The address and the token come from options, files, variables, or the settings; a Unix socket
    will do."""
    secret = here / "token"
    secret.write_text(f"{TOKEN}\n")
    async with opened(here) as shell, listening(shell.runtime, f"unix:{here}/socket"):
        url = str(shell.environ["TRIVET_URL"])
        nothing: dict[str, str | None] = {"TRIVET_URL": None, "TRIVET_TOKEN": None}
        options = ["--url", url, "--token-file", str(secret)]
        await shell.done("plugins", *options, environ=nothing)
        await shell.done("plugins", "--url", f"unix:{here}/socket", environ={"TRIVET_URL": None})
        variables: dict[str, str | None] = {**nothing, "TRIVET_TOKEN_FILE": str(secret)}
        (here / "trivet.toml").write_text(f'bind = "{url.removeprefix("http://")}"')
        await shell.done("plugins", environ=variables)
        (here / "trivet.toml").write_text(
            f'bind = "127.0.0.1:1"\nmanagement_bind = "unix:{here}/socket"'
        )
        await shell.done("plugins", environ=variables)


async def test_a_program_with_tls(here: Path) -> None:
    """A certificate is checked, by the authorities that OpenSSL knows, or `SSL_CERT_FILE` names."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(here / "ca.pem"))
    certificate = ca.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(here / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(here / "certificate.pem"))
    tls = TlsSettings(certificate=here / "certificate.pem", key=here / "key.pem")
    with capture_logs():
        async with open_plugins(Disk, tokens=TOKENS, tls=tls) as runtime, serving(runtime) as url:
            shell = Shell(runtime, {"TRIVET_URL": url, "TRIVET_TOKEN": TOKEN})
            refused = await shell.run("plugins")
            assert (refused.exit_code, "CERTIFICATE_VERIFY_FAILED" in refused.stderr) == (3, True)
            await shell.done("plugins", environ={"SSL_CERT_FILE": str(here / "ca.pem")})


async def test_no_way_to_the_program(here: Path) -> None:
    """A program that does not answer is exit code 3, an address that is missing or wrong is 2, and
    what answers need not be a program of Trivet's."""
    shell = Shell(None, {"TRIVET_URL": None, "TRIVET_TOKEN": None, "TRIVET_CONFIG": None})  # type: ignore[arg-type]
    result = await shell.run("plugins", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 3
    assert "http://127.0.0.1:1: no program answers" in result.stderr
    assert "give --url" not in result.stderr
    overlay = here / "trivet.overlay.toml"
    (here / "trivet.toml").write_text('bind = "127.0.0.1:2"')
    for key, file in (
        ("bind", here / "trivet.toml"),
        ("bind", overlay),
        ("management_bind", overlay),
    ):
        if file is overlay:
            overlay.write_text(f'{key} = "127.0.0.1:1"')
        result = await shell.run("plugins")
        assert result.exit_code == 3
        assert f"{file.name}: {key}: if the program listens at another, give --url" in result.stderr
    overlay.unlink()
    (here / "trivet.toml").write_text('bind = "127.0.0.1:0"')
    (here / "two").write_text("a-token\nand-another")
    for arguments, why in (
        ([], "give --url, or TRIVET_URL"),
        (["--url", "ftp://127.0.0.1"], "ftp://127.0.0.1"),
        (["--url", "http://127.0.0.1:x"], "http://127.0.0.1:x"),
        (["--token-file", "nowhere", "--url", "http://127.0.0.1:1"], "nowhere: the token cannot"),
        (["--token-file", "two", "--url", "http://127.0.0.1:1"], "two: a token is ASCII, in one"),
    ):
        result = await shell.run("plugins", *arguments)
        assert result.exit_code == 2
        assert why in result.stderr

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n<>")

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        result = await shell.run("plugins", "--url", f"http://127.0.0.1:{port}")
        nursery.cancel_scope.cancel()
    assert result.exit_code == 3
    assert "what answers is no program of Trivet's" in result.stderr


async def test_completion_of_events(here: Path) -> None:
    """A shell completes the event types of the running program, and nothing without one."""
    async with opened(here) as shell:
        words: dict[str, str | None] = {
            "_TRIVET_COMPLETE": "bash_complete",
            "COMP_WORDS": "trivet publish pa",
            "COMP_CWORD": "2",
        }
        found = await shell.run(environ=words)
        assert found.stdout.splitlines() == ["plain,paid"]
        gone = {**words, "TRIVET_URL": "http://127.0.0.1:1"}
        assert (await shell.run(environ=gone)).stdout.strip() == ""


def test_the_token_is_no_argument() -> None:
    """No option takes a token, which every user of the machine would see."""
    for name in ("plugins", "publish", "disable", "dead-letters", "diagnostics"):
        command = _cli.main.commands.get(name) or _cli.main.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        options = [option for param in command.params for option in param.opts]
        assert "--token" not in options


def test_variables_of_commands_are_no_settings(here: Path) -> None:
    """The variables that name the program and the token are no unknown settings of a program."""
    (here / "trivet.toml").write_text("")
    environ = {"TRIVET_URL": "http://127.0.0.1:1", "TRIVET_TOKEN": TOKEN}
    result = CliRunner().invoke(_cli.main, ["check"], env=environ)
    assert "TRIVET_" not in result.output


async def test_a_restart_of_the_whole_program(here: Path) -> None:
    """Without a plugin's name the whole program is restarted; a program that no parent would start
    again refuses it."""
    takes_over = True

    async def replace() -> bool:
        """Have a new program take over, or not, in place of a parent process."""
        return takes_over

    async with opened(here) as shell:
        refused = await shell.run("restart")
        assert (refused.exit_code, "no parent process" in refused.stderr) == (1, True)
        shell.runtime.replace = replace
        assert await shell.done("restart", "--reason", "new code") == "a new program takes over\n"
        takes_over = False
        refused = await shell.run("restart")
        assert (refused.exit_code, "this one serves on" in refused.stderr) == (1, True)
        auditor = shell.runtime.get(Auditor)
    assert [(event.action, event.reason) for event in auditor.seen] == [("restart", "new code")]
