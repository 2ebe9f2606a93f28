// Finds what is damaged, and removes what no longer serves.
#include "tools/cache_tool.h"

#include <set>

#include <fmt/format.h>

#include "backends/cuda/jit.h"

namespace mxfp4::cache_tool {

namespace {

// Of the kernel text that this program would compile, whatever device there is.
std::string current_kernel_hash(Variant variant, const BackendOptions& options) {
    if (variant == Variant::host) return make_host_backend(options)->kernel_hash(variant);
    return Jit(options).kernel_hash(variant);
}

}  // namespace

int verify_database(Tool& tool, Arguments& arguments) {
    const Path path = arguments.device.database();
    require_there(path);
    std::vector<Finding> bad;
    try {
        bad = verify(Cache::open(path, Cache::Mode::read_only), verify_images(image_folder(path)));
    } catch (const Error& error) {
        // A file that does not open at all is what this verb is there to find.
        if (error.code() != ErrorCode::cache) throw;
        bad.push_back({"", error.what()});
    }
    for (const Finding& finding : bad)
        tool.warn(finding.key.empty() ? finding.reason : fmt::format("{}: {}", finding.key, finding.reason));
    if (tool.json()) {
        tool.print(Json{{"ok", bad.empty()}, {"bad", to_json(bad)}});
    } else if (bad.empty()) {
        tool.print(fmt::format("'{}' is sound", path.string()));
    }
    return bad.empty() ? kExitDone : kExitFailed;
}

int gc(Tool& tool, Arguments& arguments) {
    const Path path = arguments.device.database();
    Cache cache = open_existing(path, arguments.dry_run ? Cache::Mode::read_only : Cache::Mode::read_write);
    const std::vector<KeptImage> images = verify_images(image_folder(path));
    Garbage garbage = find_garbage(cache.all(), images, [&](Variant variant) {
        return current_kernel_hash(variant, arguments.device.backend_options());
    });
    std::vector<std::string> keys;
    for (const Finding& row : garbage.rows) keys.push_back(row.key);
    for (const std::string& key : cache.damaged()) garbage.rows.push_back({key, "the row's checksum does not match"});
    std::set<std::string> image_keys;
    for (const Finding& image : garbage.images) image_keys.insert(image.key);
    std::uint64_t bytes = 0;
    for (const KeptImage& image : images)
        if (image_keys.contains(image.key)) bytes += image.bytes;
    if (!arguments.dry_run) {
        cache.remove_damaged();
        cache.remove(keys);
        for (const std::string& key : image_keys) {
            const Path image = image_folder(path) / key;
            std::error_code ignored;
            if (!remove_image(image_folder(path), key) && std::filesystem::exists(image, ignored))
                throw Error(ErrorCode::io, fmt::format("'{}' cannot be removed", image.string()), {"", "", "check its folder's permissions"});
        }
    }
    if (garbage.images_unknown) tool.say("some winners do not say which image they need: only damaged images go");
    if (tool.json()) {
        tool.print(Json{{"rows", to_json(garbage.rows)},
                        {"images", to_json(garbage.images, "image")},
                        {"bytes", bytes},
                        {"dry_run", arguments.dry_run}});
        return kExitDone;
    }
    for (const Finding& f : garbage.rows) tool.print(fmt::format("row    {}  {}", f.key, f.reason));
    for (const Finding& f : garbage.images) tool.print(fmt::format("image  {}  {}", f.key, f.reason));
    tool.say(fmt::format("{}{} rows and {} images ({})", arguments.dry_run ? "would remove " : "removed ",
                         garbage.rows.size(), garbage.images.size(), bytes_text(double(bytes))));
    return kExitDone;
}

}  // namespace mxfp4::cache_tool
