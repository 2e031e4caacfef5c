#!/bin/sh
# Writes into the folder $1 what a Gradle build would generate: uniffi's Kotlin from the library, the app's compiled
# resources and their R class. THIMBLE_FFI_LIB is libthimble_ffi.so, THIMBLE_BINDGEN the command uniffi-bindgen.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
app=$here/../app/src/main
out=$1/generated
framework=${ANDROID_FRAMEWORK:-/usr/share/android-framework-res/framework-res.apk}
mkdir -p "$out/uniffi" "$out/r" "$out/test-resources/com/android/tools"

# Only where the library is newer, so that the compiler is spared too.
if [ ! -e "$out/uniffi/done" ] || [ "$THIMBLE_FFI_LIB" -nt "$out/uniffi/done" ] ||
    [ "$here/../uniffi.toml" -nt "$out/uniffi/done" ]; then
    "$THIMBLE_BINDGEN" generate --library "$THIMBLE_FFI_LIB" --language kotlin --no-format \
        --config "$here/../uniffi.toml" --out-dir "$out/uniffi"
    touch "$out/uniffi/done"
fi

aapt2 compile --dir "$app/res" -o "$out/res.zip"
# Gradle takes the package from the namespace of the build script, aapt2 from the manifest.
sed 's/<manifest /<manifest package="ai.thimble.app" /' "$app/AndroidManifest.xml" >"$out/AndroidManifest.xml"
aapt2 link -I "$framework" --manifest "$out/AndroidManifest.xml" --min-sdk-version 26 --target-sdk-version 35 \
    --java "$out/r" -o "$out/res.apk" "$out/res.zip"

cat >"$out/test-resources/com/android/tools/test_config.properties" <<END
android_merged_manifest=$out/AndroidManifest.xml
android_resource_apk=$out/res.apk
android_custom_package=ai.thimble.app
END
