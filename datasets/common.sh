# Shared by the download_and_convert_*.sh in this folder: `source` it, after scripts/common.sh.

# take_words FOLDER "--own --flags" "$@": what the command line says.
#   FOLDER, RAW, RECORDS    the dataset's folder (its default is given), files as published, TFRecords
#   DOWNLOAD, BUILD         flags of download_data.py, and of build_data.py, which gets all others
#   OWN                     which of the script's own flags were given
take_words() {
  local own="$2" word folder=""
  FOLDER="$1" DOWNLOAD=() BUILD=() OWN=""
  for word in "${@:3}"; do
    case "$word" in
      --help | -h)
        sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
      --archives=* | --addresses=* | --password=* | --keep_archives | --keep_archives=*) DOWNLOAD+=("$word") ;;
      -*) if [[ " $own " == *" $word "* ]]; then OWN+=" $word"; else BUILD+=("$word"); fi ;;
      *)
        if [ -n "$folder" ]; then
          echo "error: two folders, $folder and $word; flags are written --flag=value" >&2
          exit 2
        fi
        folder="$word"
        ;;
    esac
  done
  FOLDER="${folder:-$FOLDER}"
  RAW="$FOLDER/raw"
  RECORDS="$FOLDER/tfrecord"
  # DEEPLAB_ADDRESSES=FILE.yml does for all of them what --addresses does for one.
  if [ -n "${DEEPLAB_ADDRESSES:-}" ]; then
    DOWNLOAD=("--addresses=$DEEPLAB_ADDRESSES" ${DOWNLOAD[@]+"${DOWNLOAD[@]}"})
  fi
}

# has --flag: whether one of the script's own flags was given.
has() { [[ "$OWN " == *" $1 "* ]]; }

# need MODULE EXTRA: installs what only this dataset needs.
need() {
  if [ "${DEEPLAB_PYTHON_READY:-}" != 1 ] && ! python -c "import $1" 2>/dev/null; then
    say "installing the extra $2"
    python -m pip install --quiet --disable-pip-version-check -e "$ROOT[$2]"
  fi
}

# download NAME: fetches a dataset's files into RAW.
download() {
  say "$1: files, into $RAW"
  python "$ROOT/deeplab/download_data.py" "$1" --output_dir="$RAW" ${DOWNLOAD[@]+"${DOWNLOAD[@]}"}
}

# build FORMAT --flags: makes TFRecords of them in RECORDS, and checks these. Records that are there already stay as they
# are, unless --overwrite is among the flags.
build() {
  local again=(--resume)
  case " ${BUILD[*]-} " in *" --overwrite "* | *" --overwrite=true "* | *" --resume"*) again=() ;; esac
  say "records, into $RECORDS"
  python "$ROOT/deeplab/build_data.py" "$@" --output_dir="$RECORDS" ${again[@]+"${again[@]}"} ${BUILD[@]+"${BUILD[@]}"}
}
