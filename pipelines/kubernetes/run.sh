#!/usr/bin/env bash
# A planned coldstart run on Kubernetes: an indexed Job for the units of each stage, the rest here, in a pod that sees the lake.
#
#   run.sh PIPELINE DATE UNITS IMAGE CLAIM
#
# Needs coldstart, kubectl, envsubst and jq. Every step may be repeated: what is done is not done again, so after a failure
# the same command resumes. Exit code: coldstart's own, or 75 where a Job failed.
set -euo pipefail
pipeline=$1 date=$2 units=$3
export IMAGE=$4 CLAIM=$5 PLAN="$1.$2.plan.json"
NAME="coldstart-$(jq -nr --arg n "$(basename "$pipeline" .toml)-$date" '$n | ascii_downcase | gsub("[^a-z0-9-]"; "-")')"
export NAME
planned=$(coldstart plan "$pipeline" --date "$date" --units "$units" -o "$PLAN")
jq -r '.stages[] | "\(.[0]) \(.[1])"' <<<"$planned" | while read -r STAGE UNITS; do
  export STAGE UNITS
  if [ "$UNITS" -gt 0 ]; then
    kubectl delete job "$NAME-$STAGE" --ignore-not-found >&2
    # shellcheck disable=SC2016
    envsubst '$STAGE $UNITS $PLAN $NAME $IMAGE $CLAIM' <"$(dirname "$0")/stage.yaml" | kubectl apply -f - >&2
    until kubectl wait --for=condition=complete "job/$NAME-$STAGE" --timeout=10s >&2; do
      if kubectl wait --for=condition=failed "job/$NAME-$STAGE" --timeout=1s >&2; then exit 75; fi
    done
  fi
  coldstart reduce "$PLAN" "$STAGE" >&2
done
coldstart commit "$PLAN"
