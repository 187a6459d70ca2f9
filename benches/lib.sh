# shellcheck shell=bash
# What the measurements share: SQL and pgbench on the server that the libpq environment names, and ratios of two sides
# measured in turn. Sourced, never run. Writes to a scratch folder of its own, removed at the end.

set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
bin=${PGBIN:-$(pg_config --bindir)}
rounds=${BENCH_ROUNDS:-9}  # how often each side is measured
scale=${BENCH_SCALE:-100}  # per cent of the full number of rows and transactions
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Commits do not wait for the disk: what is measured is work, not fsync.
export PGOPTIONS='-c synchronous_commit=off -c client_min_messages=warning'
# A session that has used the extension once has its library, with its executor hooks; the unmanaged side never loads it.
loaded='-c session_preload_libraries=pg_tombstone'

scaled() { echo $(($1 * scale / 100)); }

sql() { "$bin/psql" --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "$@"; }

# Leaves no work of the past to whoever is measured next. A CHECKPOINT is not among it: it would make each page's first
# change log the whole page, which is a cost of checkpoints; so it is taken before the rows are loaded, and not again.
settle() { sql --command='VACUUM (ANALYZE)'; }

# tps CLIENTS TRANSACTIONS BASE SCRIPT: of a pgbench run in which each transaction has an :id of its own, from BASE + 1 on;
# at most $rate a second, where that is set.
tps() {
    "$bin/pgbench" --no-vacuum --protocol=prepared --client="$1" --jobs="$1" --transactions=$(($2 / $1)) \
        --define=base="$3" --define=clients="$1" --define=n=-1 --file="$4" ${rate:+--rate="$rate"} >"$scratch/out" 2>"$scratch/err" ||
        { cat "$scratch/out" "$scratch/err" >&2; return 1; }
    if ! grep -q 'number of failed transactions: 0 ' "$scratch/out"; then
        cat "$scratch/out" "$scratch/err" >&2
        return 1
    fi
    sed -n 's/^tps = \([0-9.]*\) .*/\1/p' "$scratch/out"
}

# milliseconds STATEMENT: how long the server and psql take over it.
milliseconds() {
    printf '\\timing on\n%s\n' "$1" | sql | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
}

# in_turn OURS THEIRS: runs the commands OURS ROUND and THEIRS ROUND, each once a round and first in every other round;
# their figures go to $scratch/pairs. Round 0 warms up and does not count.
in_turn() {
    local round ours theirs
    : >"$scratch/pairs"
    for ((round = 0; round <= rounds; round++)); do
        if ((round % 2)); then
            ours=$($1 "$round") theirs=$($2 "$round")
        else
            theirs=$($2 "$round") ours=$($1 "$round")
        fi
        ((round == 0)) || echo "$ours $theirs" >>"$scratch/pairs"
    done
}

# sides_in_turn COMMAND SIDE …: runs COMMAND SIDE for each side, once a round, in every other round from the last to the first; their
# figures go to $scratch/sides. Round 0 warms up and does not count.
sides_in_turn() {
    local command=$1 round side figure
    shift
    : >"$scratch/sides"
    for ((round = 0; round <= rounds; round++)); do
        for side in $(if ((round % 2)); then printf '%s\n' "$@"; else printf '%s\n' "$@" | tac; fi); do
            figure=$($command "$side")
            ((round == 0)) || echo "$round $side $figure" >>"$scratch/sides"
        done
    done
}

# pair OURS THEIRS: two of those sides become the pairs that `report` takes.
pair() {
    awk -v ours="$1" -v theirs="$2" '$2 == ours { o[$1] = $3 } $2 == theirs { t[$1] = $3 }
        END { for (round in o) print o[round], t[round] }' "$scratch/sides" >"$scratch/pairs"
}

# What the server process $PID has taken for itself at most, in MB: its peak, without the shared buffers it has touched. For psql.
own_memory="\\! awk '/^VmHWM/ { peak = \$2 } /^RssShmem/ { shared = \$2 } END { print (peak - shared) / 1024 }' /proc/\$PID/status"

# Prints one row: a title, the medians of both sides, the median of the rounds' ratios and their range.
report() {
    awk -v title="$1" -v unit="$2" -v aim="$3" '
        function median(a, n,  i, j, t) {
            for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j - 1] > a[j]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
        }
        { ours[NR] = $1; theirs[NR] = $2; ratio[NR] = $1 / $2 }
        END {
            format = unit == "tps" ? "%.0f %s" : "%.1f %s"
            middle = median(ratio, NR)
            printf "%-34s %12s %12s   %5.2fx  (%.2f-%.2f)  %s\n", title, sprintf(format, median(ours, NR), unit),
                sprintf(format, median(theirs, NR), unit), middle, ratio[1], ratio[NR], aim
        }' "$scratch/pairs"
}

# heading TITLE [OURS THEIRS]
heading() { printf '\n%s\n%-34s %12s %12s   %6s  %-11s  %s\n' "$1" '' "${2:-managed}" "${3:-unmanaged}" ratio range aim; }
