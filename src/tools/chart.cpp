#include "tools/chart.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace mxfp4 {
namespace {

constexpr double kPanelWidth = 430, kPanelHeight = 250;
constexpr double kLeft = 70, kTop = 70, kGapX = 90, kGapY = 80, kRight = 30, kBottom = 60;

struct Point {
    double x, y;
};
struct Line {
    std::string name, colour;
    double width;
    std::vector<Point> points;
};
struct PeerStyle {
    const char *column, *name, *colour;
};
constexpr PeerStyle kPeers[] = {
    {"triton_us", "triton_kernels", "#d95f02"},
    {"humming_searched_us", "Humming", "#7570b3"},
    {"marlin_us", "Marlin", "#66a61e"},
};
constexpr const char* kOurs = "#1f4fa0";

std::string escaped(const std::string& text) {
    std::string out;
    for (char c : text) {
        switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            default: out += c;
        }
    }
    return out;
}

std::string label(double x, double y, const std::string& text, const char* anchor, int size = 12, const char* more = "") {
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{}\" text-anchor=\"{}\" {}>{}</text>\n", x, y, size, anchor, more, escaped(text));
}

std::string stroke(double x1, double y1, double x2, double y2, const char* colour) {
    return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2, y2, colour);
}

// One coordinate system. x is always logarithmic.
class Panel {
  public:
    Panel(double left, double top, std::vector<Line> lines, bool log_y) : left_(left), top_(top), lines_(std::move(lines)), log_y_(log_y) {
        x_min_ = y_min_ = 1e300;
        x_max_ = y_max_ = 0;
        for (const Line& line : lines_)
            for (const Point& p : line.points) {
                x_min_ = std::min(x_min_, p.x);
                x_max_ = std::max(x_max_, p.x);
                y_min_ = std::min(y_min_, p.y);
                y_max_ = std::max(y_max_, p.y);
            }
        if (x_max_ <= x_min_) x_max_ = 2 * x_min_;
        if (log_y) {
            y_min_ = std::pow(10, std::floor(std::log10(y_min_)));
            y_max_ = std::max(std::pow(10, std::ceil(std::log10(y_max_))), 10 * y_min_);
        } else {
            y_min_ = 0;
            y_max_ = std::max(1.0, y_max_);
        }
    }

    std::string svg(const std::string& title) const {
        std::string out = label(left_ + kPanelWidth / 2, top_ - 12, title, "middle", 13, "font-weight=\"bold\"");
        double last_label = -1e9;
        for (double t = std::pow(2, std::ceil(std::log2(x_min_) - 1e-9)); t <= x_max_ * 1.001; t *= 2) {
            const double at = x(t);
            out += stroke(at, top_, at, top_ + kPanelHeight, "#eeeeee");
            if (at - last_label < 34) continue;
            last_label = at;
            out += label(at, top_ + kPanelHeight + 17, fmt::format("{:.0f}", t), "middle", 11);
        }
        out += label(left_ + kPanelWidth / 2, top_ + kPanelHeight + 35, "tokens", "middle");
        for (double tick : y_ticks()) {
            out += stroke(left_, y(tick), left_ + kPanelWidth, y(tick), "#dddddd");
            out += label(left_ - 8, y(tick) + 4, log_y_ ? fmt::format("{:g}", tick) : fmt::format("{:.0f} %", 100 * tick), "end", 11);
        }
        for (const Line& line : lines_) {
            std::string points;
            for (const Point& p : line.points) points += fmt::format("{:.1f},{:.1f} ", x(p.x), y(p.y));
            out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"/>\n", points, line.colour, line.width);
            for (const Point& p : line.points)
                out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\"><title>{} at {:.0f}: {:.4g}</title></circle>\n", x(p.x),
                                   y(p.y), line.width, line.colour, escaped(line.name), p.x, p.y);
        }
        return out + fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#888888\"/>\n", left_, top_, kPanelWidth,
                                 kPanelHeight);
    }

  private:
    double x(double value) const { return left_ + kPanelWidth * std::log(value / x_min_) / std::log(x_max_ / x_min_); }
    double y(double value) const {
        const double share = log_y_ ? std::log(value / y_min_) / std::log(y_max_ / y_min_) : (value - y_min_) / (y_max_ - y_min_);
        return top_ + kPanelHeight * (1 - share);
    }
    std::vector<double> y_ticks() const {
        std::vector<double> ticks;
        if (log_y_)
            for (double t = y_min_; t <= y_max_ * 1.001; t *= 10) ticks.push_back(t);
        else
            for (double t = 0; t <= y_max_ + 1e-9; t += 0.2) ticks.push_back(t);
        return ticks;
    }

    double left_, top_;
    std::vector<Line> lines_;
    bool log_y_;
    double x_min_, x_max_, y_min_, y_max_;
};

// The lines of one weight: value(row, us) of ours and of each peer.
template <class Value>
std::vector<Line> lines_of(std::span<const BenchRow> rows, std::span<const Peer> peers, Value value) {
    std::vector<Line> lines;
    for (const PeerStyle& style : kPeers) {
        Line line{style.name, style.colour, 1.5, {}};
        for (const BenchRow& row : rows)
            if (const Peer* peer = find_peer(peers, row); peer && peer->us.contains(style.column))
                line.points.push_back({double(row.tokens), value(row, peer->us.at(style.column))});
        if (!line.points.empty()) lines.push_back(std::move(line));
    }
    Line ours{"mxfp4", kOurs, 3, {}};
    for (const BenchRow& row : rows) ours.points.push_back({double(row.tokens), value(row, row.us)});
    lines.push_back(std::move(ours));
    return lines;
}

}  // namespace

std::string chart_svg(std::span<const BenchRow> rows, std::span<const Peer> peers, const std::string& title) {
    std::vector<std::pair<std::string, std::vector<BenchRow>>> weights;
    for (const BenchRow& row : rows) {
        const std::string name = row.model + " " + row.mlp;
        auto found = std::find_if(weights.begin(), weights.end(), [&](const auto& w) { return w.first == name; });
        if (found == weights.end()) found = weights.insert(weights.end(), {name, {}});
        found->second.push_back(row);
    }
    const bool floors = std::any_of(rows.begin(), rows.end(), [](const BenchRow& row) { return row.floor().has_value(); });
    const double width = kLeft + kPanelWidth * (floors ? 2 : 1) + (floors ? kGapX : 0) + kRight;
    const double height = kTop + double(weights.size()) * (kPanelHeight + kGapY) - kGapY + kBottom;
    std::string svg = fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
                                  "font-family=\"sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
                                  width, height);
    svg += label(kLeft, 22, title, "start", 15, "font-weight=\"bold\"");

    double legend = kLeft;
    std::vector<std::string> shown;
    double top = kTop;
    for (const auto& [name, own] : weights) {
        auto us = lines_of(own, peers, [](const BenchRow&, double t) { return t; });
        if (floors) {
            Line floor{"floor", "#999999", 1.5, {}};
            for (const BenchRow& row : own) floor.points.push_back({double(row.tokens), *row.floor()});
            us.insert(us.begin(), std::move(floor));
        }
        for (const Line& line : us) {
            if (std::find(shown.begin(), shown.end(), line.name) != shown.end()) continue;
            shown.push_back(line.name);
            svg += fmt::format("<line x1=\"{0}\" y1=\"38\" x2=\"{1}\" y2=\"38\" stroke=\"{2}\" stroke-width=\"{3}\"/>\n", legend, legend + 24,
                               line.colour, line.width);
            svg += label(legend + 30, 42, line.name, "start");
            legend += 140;
        }
        svg += Panel(kLeft, top, us, true).svg(name + ": microseconds");
        if (floors)
            svg += Panel(kLeft + kPanelWidth + kGapX, top, lines_of(own, peers, [](const BenchRow& row, double t) { return *row.floor() / t; }), false)
                       .svg(name + ": fraction of the floor");
        top += kPanelHeight + kGapY;
    }
    return svg + "</svg>\n";
}

}  // namespace mxfp4
