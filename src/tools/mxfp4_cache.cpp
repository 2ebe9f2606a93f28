// mxfp4-cache: looks into the tuning database, explains its choices and keeps it in order.
#include "tools/cache_tool.h"

using namespace mxfp4;
using namespace mxfp4::cache_tool;

namespace {

using Verb = std::function<int()>;

// The verb that was asked for is put into chosen.
CLI::App* add_verb(Tool& tool, Verb& chosen, const char* name, const char* description, Verb verb) {
    CLI::App* sub = tool.app().add_subcommand(name, description);
    sub->callback([&chosen, verb = std::move(verb)] { chosen = verb; });
    return sub;
}

void add_verbs(Tool& tool, Arguments& a, Verb& chosen) {
    const auto add = [&](const char* name, const char* description, Verb verb) {
        return add_verb(tool, chosen, name, description, std::move(verb));
    };
    const auto with_key = [&](CLI::App* sub) {
        sub->add_option("KEY", a.key, "The key as list prints it, or the beginning of its hash")->required();
    };
    const auto with_other = [&](CLI::App* sub) {
        sub->add_option("OTHER", a.other, "Another tuning database")->required();
    };

    add("list", "Every winner", [&] { return list(tool, a); });
    with_key(add("show", "One winner, field by field", [&] { return show(tool, a); }));

    CLI::App* why = add("explain", "What would serve a problem, and why", [&] { return explain(tool, a); });
    why->add_option("--shape", a.shape, "Experts, outputs and reduction")
        ->type_name("E,N,K")
        ->delimiter(',')
        ->expected(3)
        ->required();
    why->add_option("--rows", a.rows, "Rows of the problem: tokens x experts a token")->required();
    why->add_option("--groups", a.groups, "Groups of the problem; 0: one for each expert");
    why->add_option("--layout", a.layout, "native, hopper or blocks")->capture_default_str();
    why->add_option("--num-warps", a.num_warps, "Of the scale swizzle (hopper, blocks); 8");
    why->add_option("--scale-class", a.scale_class, "folded, rebased or plain")->capture_default_str();
    why->add_flag("--unaligned-x", a.unaligned_x, "x or its row stride is no multiple of 16 bytes");
    why->add_flag("--unaligned-y", a.unaligned_y, "y or its row stride is no multiple of 16 bytes");

    add("verify", "Checks every row and every compiled image; exit 1 where one is bad",
        [&] { return verify_database(tool, a); });
    CLI::App* out = add("export", "All winners as JSON", [&] { return export_winners(tool, a); });
    out->add_option("-o,--output", a.output, "A file instead of standard output");
    CLI::App* in = add("import", "Takes what is new or newer from an export", [&] { return import_winners(tool, a); });
    in->add_option("FILE", a.file, "What export wrote; - is standard input")->required();
    with_other(
        add("merge", "Takes what is new or newer from another database", [&] { return merge_database(tool, a); }));
    with_other(add("diff", "Compares with another database; exit 1 where they differ", [&] { return diff(tool, a); }));
    CLI::App* sweep = add("gc", "Removes winners that no longer serve as exact, and images that nobody needs",
                          [&] { return gc(tool, a); });
    sweep->add_flag("--dry-run", a.dry_run, "Say what would go, and leave it");
    with_key(add("block", "Never serve this winner", [&] { return set_status(tool, a, WinnerStatus::blocked); }));
    with_key(add("unblock", "Serve it again", [&] { return set_status(tool, a, WinnerStatus::ok); }));
}

}  // namespace

int main(int argc, char** argv) {
    Tool tool("mxfp4-cache", "Looks into the tuning database, explains its choices and keeps it in order.");
    Arguments arguments(tool);
    Verb chosen;
    tool.app().require_subcommand(1);
    tool.app().fallthrough();  // --db, --device, --json and --quiet may follow the verb
    add_verbs(tool, arguments, chosen);
    return tool.run(argc, argv, [&] { return chosen(); });
}
