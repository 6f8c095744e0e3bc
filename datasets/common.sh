# Shared by the download_and_convert_*.sh in this folder: `source` it, after scripts/common.sh.

# take_words FOLDER "--own --flags" "$@": parses the command line into
#   FOLDER, RAW, RECORDS    the dataset's folder (default given), its files as published, its TFRecords
#   DOWNLOAD, BUILD         flags for download_data.py; all other flags, for build_data.py
#   OWN                     the script's own flags that were given
take_words() {
  local own="$2" word folder=""
  FOLDER="$1" DOWNLOAD=() BUILD=() OWN=""
  for word in "${@:3}"; do
    case "$word" in
      --help | -h)
        sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
      --archives=* | --addresses=* | --keep_archives | --keep_archives=*) DOWNLOAD+=("$word") ;;
      -*) if [[ " $own " == *" $word "* ]]; then OWN+=" $word"; else BUILD+=("$word"); fi ;;
      *)
        if [ -n "$folder" ]; then
          echo "error: two folders were given, $folder and $word; write flags as --flag=value" >&2
          exit 2
        fi
        folder="$word"
        ;;
    esac
  done
  FOLDER="${folder:-$FOLDER}"
  RAW="$FOLDER/raw"
  RECORDS="$FOLDER/tfrecord"
  # DEEPLAB_ADDRESSES=FILE.yml is --addresses for all scripts.
  if [ -n "${DEEPLAB_ADDRESSES:-}" ]; then
    DOWNLOAD=("--addresses=$DEEPLAB_ADDRESSES" ${DOWNLOAD[@]+"${DOWNLOAD[@]}"})
  fi
}

# has --flag: whether one of the script's own flags was given.
has() { [[ "$OWN " == *" $1 "* ]]; }

# need MODULE EXTRA: installs an extra that this dataset needs.
need() {
  if [ "${DEEPLAB_PYTHON_READY:-}" != 1 ] && ! python -c "import $1" 2>/dev/null; then
    say "installing the extra $2"
    python -m pip install --quiet --disable-pip-version-check -e "$ROOT[$2]"
  fi
}

# download NAME: downloads a dataset's files into RAW.
download() {
  say "$1: files, into $RAW"
  python "$ROOT/deeplab/download_data.py" "$1" --output_dir="$RAW" ${DOWNLOAD[@]+"${DOWNLOAD[@]}"}
}

# build FORMAT --flags: converts them to TFRecords in RECORDS and checks these. Existing records are kept unless
# --overwrite is among the flags.
build() {
  local again=(--resume)
  case " ${BUILD[*]-} " in *" --overwrite "* | *" --overwrite=true "* | *" --resume"*) again=() ;; esac
  say "records, into $RECORDS"
  python "$ROOT/deeplab/build_data.py" "$@" --output_dir="$RECORDS" ${again[@]+"${again[@]}"} ${BUILD[@]+"${BUILD[@]}"}
}
