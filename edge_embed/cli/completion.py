"""`edge-embed completion`."""

import click

from edge_embed.cli.options import json_option, show

BASH = r"""_edge_embed() {
    local word=${COMP_WORDS[COMP_CWORD]} kind value help
    [[ $word == "=" ]] && word=
    COMPREPLY=()
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            index) _edge_embed_paths -f -X '!*.db' -- "$word"; _edge_embed_paths -d -- "$word" ;;
            dir) _edge_embed_paths -d -- "$word" ;;
            file) _edge_embed_paths -f -- "$word" ;;
        esac
    done < <(_EDGE_EMBED_COMPLETE=bash "$1" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
_edge_embed_paths() {
    compopt -o filenames
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "$@")
}
complete -o nosort -F _edge_embed edge-embed
"""
# The function has the name of the file, in which zsh looks for it.
ZSH = r"""#compdef edge-embed
_edge-embed() {
    local line kind value help
    local -a lines found
    lines=("${(@f)$(_EDGE_EMBED_COMPLETE=zsh $words[1] "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ $words[CURRENT] == -*=* ]] && compset -P '*='
    for line in $lines; do
        IFS=$'\t' read -r kind value help <<< "$line"
        case $kind in
            plain) found+=("${value//:/\\:}:$help") ;;
            index) _files -g '*.db' ;;
            dir) _files -/ ;;
            file) _files ;;
        esac
    done
    (( $#found )) && _describe -V edge-embed found
}
if [[ $funcstack[1] == _edge-embed ]]; then
    _edge-embed "$@"
else
    compdef _edge-embed edge-embed
fi
"""
FISH = r"""function __edge_embed
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l option (string match -r '^-[^=]*=' -- "$word")
    set -l value (string replace -r '^-[^=]*=' '' -- "$word")
    for line in (_EDGE_EMBED_COMPLETE=fish $words[1] $words[2..] "$word" 2>/dev/null)
        set -l parts (string split \t -- $line)
        switch $parts[1]
            case plain
                printf '%s%s\t%s\n' "$option" $parts[2] $parts[3]
            case index
                __edge_embed_paths "$value" | string match -r '.*(?:/|\.db)$' | string replace -r '^' -- "$option"
            case dir
                __fish_complete_directories "$value" | string replace -r '^' -- "$option"
            case file
                __edge_embed_paths "$value" | string replace -r '^' -- "$option"
        end
    end
end
function __edge_embed_paths
    # those of any command, as fish reads ~, \ and quotes
    complete -C "__edge_embed_files $argv" | string split -f 1 \t
end
complete -c edge-embed -f -a '(__edge_embed)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@click.command()
@click.argument("shell", type=click.Choice([*SCRIPTS]))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print a script with which your shell completes commands.

    It completes commands, options and their values, names of bundles, index files (*.db) and paths. For this user:

    \b
    bash:  edge-embed completion bash > ~/.local/share/bash-completion/completions/edge-embed
    zsh:   edge-embed completion zsh > ~/.zfunc/_edge-embed
    fish:  edge-embed completion fish > ~/.config/fish/completions/edge-embed.fish
    """
    show({"shell": shell, "script": SCRIPTS[shell]}, as_json, SCRIPTS[shell].splitlines)
