# List the recipes
default:
    @just --list

# Everything that must pass
ci:
    .ci/run

# The tests that every machine can run
test:
    cargo test

# All tests: as root, with the programs that .ci/provide installs
test-all:
    cargo test -- --include-ignored

# Write the expected outputs of cases and mistakes anew; read them before you commit
snapshots:
    SNAPSHOTS=overwrite cargo test

# Real processes, some of which drift
demo:
    cargo run --example demo

# Formatting and lints
lint:
    cargo fmt --all --check
    cargo clippy --all-targets --locked -- -D warnings

# What is left out: flags that never overlap are the same number with | and with ^.
# Which changes of the code no test notices: `just mutants src/plan/guard.rs`; of a folder, that takes an hour or more
mutants file:
    cargo mutants --file '{{file}}' --exclude-re 'replace \| with \^' --timeout 300 -- --test it -- --include-ignored

# Plans on tables against plans on files, in five thousand random worlds. Takes a quarter of an hour
postgres-worlds:
    WORLDS=385 cargo test --features postgres --test postgres worlds::

# How long plans and applies on tables of so many rows take, beside what the server itself takes: as a table in Markdown
postgres-figures sessions="10000,1000000":
    SESSIONS={{sessions}} cargo test --release --features postgres --test postgres figures:: -- --ignored --nocapture

# The seed of the moments is shown: with SEED set to it they are the same again.
# The OpenClaw gateway itself, with 2,000 sessions: runs and gateways that die at random moments. Takes a quarter of an hour
openclaw:
    PATH="$(.ci/provide):$PATH" cargo test --test it openclaw_real::deaths -- --ignored

# The seed of the moments is shown: with another SEED they are others.
# Runs and launches on a table whose connection is cut, or whose server is stopped, at 500 random moments of each kind
postgres-cuts:
    CUTS=500 cargo test --features postgres --test postgres cuts:: -- --nocapture

# How long runs on 2,000 sessions of an OpenClaw gateway take, beside what the gateway itself takes
openclaw-figures:
    PATH="$(.ci/provide):$PATH" cargo test --release --test it openclaw_real::figures -- --ignored --nocapture
