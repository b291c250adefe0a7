# shellcheck shell=bash
# To be sourced. find_ruby HOME OPTION ...: finds a Ruby that, with these options, succeeds: the one that tests/setup.sh has
# unpacked into HOME, else the machine's own. Then "env ${ruby_env[@]} $ruby" runs it.
find_ruby() {
    local tree=$1/ruby/usr lib
    ruby=ruby
    ruby_env=()
    if [ -d "$tree" ]; then
        lib=$tree/lib/$(gcc -print-multiarch)
        ruby=$(echo "$tree"/bin/ruby[0-9]*)
        ruby_env=(LD_LIBRARY_PATH="$lib" GEM_PATH="$(echo "$tree"/share/rubygems-integration/* | tr ' ' :)"
            RUBYLIB="$(echo "$tree"/lib/ruby/vendor_ruby "$lib"/ruby/vendor_ruby/* "$tree"/lib/ruby/[0-9]* "$lib"/ruby/[0-9]* | tr ' ' :)")
    fi
    env "${ruby_env[@]}" "$ruby" "${@:2}" 2>/dev/null
}
