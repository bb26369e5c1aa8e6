# wasteful.awk -- lines of kernels whose accesses take more than twice the least and more than the budget says; exit code 1 if
# there are any, or no accesses at all. Reads tests/gpu/lint.txt, then what TIC_EMU_LINT wrote.
BEGIN { FS = "\t" }
FNR == NR {
    if ($0 !~ /^#/ && match($0, /^[a-z]+ +[0-9.]+ +/)) {
        split($0, word, " +")
        kind[++n] = word[1]; most[n] = word[2]; pattern[n] = substr($0, RLENGTH + 1)
    }
    next
}
{ key = $1 " " $2 "\t" $7; least[key] += $4; taken[key] += $5; of[key] = $6; seen++ }
END {
    for (key in least) {
        times = taken[key] / least[key]; allowed = 2
        split(key, part, "\t"); split(part[1], what, " ")
        for (i = 1; i <= n; i++)
            if (kind[i] == what[1] && part[2] ~ pattern[i] && most[i] > allowed) allowed = most[i]
        if (times > allowed + 0.005) { printf "%s %.2f times the least, %s allowed, in %s: %s\n", part[1], times, allowed, of[key], part[2]; bad = 1 }
    }
    if (!seen) { print "no accesses"; bad = 1 }
    exit bad
}
