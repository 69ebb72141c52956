/*
 * A path tracer that renders one tile of a picture: scene and tile on stdin, pixels on stdout.
 *
 * The same bytes come out of every build, WebAssembly or native, as long as the compiler keeps IEEE 754
 * doubles apart (-ffp-contract=off): the only operations are + - * / and sqrt, which are exact everywhere, and the random
 * numbers are our own. Each pixel draws from a sequence of its own, so a picture does not depend on its tiling.
 *
 * Input, little-endian, made by scene.py:
 *   "NRND" 01 00 00 00
 *   u32 width, height, tile x, tile y, tile width, tile height, samples per pixel, bounces, seed, shapes
 *   f64 camera: eye[3], right[3], up[3], forward[3], lens radius, focus distance
 *       (right and up reach from the centre of the picture to its edge at distance 1)
 *   f64 sun: direction[3], colour[3], size;  f64 sky: horizon[3], zenith[3];  f64 water: colour[3], wave height
 *   shapes: u32 material, u32 0, f64 a[3], b[3], radius, colour[3], roughness (a sphere has a = b)
 * Output: tile width * tile height * 3 bytes, RGB, row by row.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHAPES_MAX 1024
#define PIXELS_MAX (1 << 20)
#define HEADER_BYTES (8 + 10 * 4 + 31 * 8)
#define SHAPE_BYTES (8 + 11 * 8)
#define FAR 1e30
#define NEAR 1e-6

enum material { DIFFUSE, METAL, GLASS, LIGHT, MATERIALS };

typedef struct { double x, y, z; } vec;
typedef struct { vec low, high; } box;
typedef struct { vec from, to; } ray;

/* A capsule from a to b; a sphere where both are the same. */
typedef struct {
    uint32_t material;
    vec a, b, colour;
    double radius, roughness;
} shape;

/* A node of the tree of boxes: a leaf if count > 0, else its children are at first and first + 1. */
typedef struct {
    box bounds;
    uint32_t first, count;
} node;

typedef struct {
    double distance;
    vec normal;
    const shape *shape; /* NULL: the water */
} hit;

static struct { uint32_t width, height, x, y, w, h, samples, bounces, seed, shapes; } picture;
static struct { vec eye, right, up, forward; double lens, focus; } camera;
static struct { vec direction, colour; double size; } sun;
static struct { vec horizon, zenith; } sky;
static struct { vec colour; double waves; } water;
static shape shapes[SHAPES_MAX];
static node tree[2 * SHAPES_MAX];
static uint32_t nodes;

/* ------------------------------------------------------------------ vectors */

static inline double square_root(double x) { return __builtin_sqrt(x); }
static inline double lesser(double a, double b) { return a < b ? a : b; }
static inline double greater(double a, double b) { return a > b ? a : b; }
static inline vec vector(double x, double y, double z) { return (vec){x, y, z}; }
static inline vec add(vec a, vec b) { return vector(a.x + b.x, a.y + b.y, a.z + b.z); }
static inline vec subtract(vec a, vec b) { return vector(a.x - b.x, a.y - b.y, a.z - b.z); }
static inline vec scale(vec a, double s) { return vector(a.x * s, a.y * s, a.z * s); }
static inline vec tint(vec a, vec b) { return vector(a.x * b.x, a.y * b.y, a.z * b.z); }
static inline double dot(vec a, vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static inline vec unit(vec a) { return scale(a, 1 / square_root(dot(a, a))); }
static inline vec mix(vec a, vec b, double t) { return add(scale(a, 1 - t), scale(b, t)); }
static inline vec reflect(vec v, vec n) { return subtract(v, scale(n, 2 * dot(v, n))); }
static inline vec at(const ray *r, double t) { return add(r->from, scale(r->to, t)); }

/* ------------------------------------------------------------------ random numbers (PCG32) */

typedef struct { uint64_t state, step; } random_state;

static uint32_t random_bits(random_state *r) {
    uint64_t old = r->state;
    r->state = old * 6364136223846793005u + r->step;
    uint32_t mixed = (uint32_t)(((old >> 18) ^ old) >> 27), turn = (uint32_t)(old >> 59);
    return (mixed >> turn) | (mixed << ((32 - turn) & 31));
}

static random_state random_of(uint32_t pixel) {
    random_state r = {0, ((uint64_t)pixel << 1) | 1};
    random_bits(&r);
    r.state += ((uint64_t)picture.seed << 32) ^ (pixel * 0x9e3779b97f4a7c15u);
    random_bits(&r);
    random_bits(&r);
    return r;
}

/* From 0 to 1, exclusive. */
static inline double chance(random_state *r) { return random_bits(r) * (1.0 / 4294967296.0); }

static vec within_ball(random_state *r) {
    for (;;) {
        vec v = {2 * chance(r) - 1, 2 * chance(r) - 1, 2 * chance(r) - 1};
        double length = dot(v, v);
        if (length < 1 && length > 1e-9) return v;
    }
}

/* ------------------------------------------------------------------ shapes */

static box bounds_of(const shape *s) {
    double r = s->radius;
    return (box){
        {lesser(s->a.x, s->b.x) - r, lesser(s->a.y, s->b.y) - r, lesser(s->a.z, s->b.z) - r},
        {greater(s->a.x, s->b.x) + r, greater(s->a.y, s->b.y) + r, greater(s->a.z, s->b.z) + r},
    };
}

static box around(box a, box b) {
    return (box){
        {lesser(a.low.x, b.low.x), lesser(a.low.y, b.low.y), lesser(a.low.z, b.low.z)},
        {greater(a.high.x, b.high.x), greater(a.high.y, b.high.y), greater(a.high.z, b.high.z)},
    };
}

static double sphere_distance(const ray *r, vec centre, double radius, double limit) {
    vec o = subtract(r->from, centre);
    double b = dot(o, r->to), c = dot(o, o) - radius * radius, d = b * b - c;
    if (d < 0) return FAR;
    double root = square_root(d), t = -b - root;
    if (t < NEAR) t = -b + root;
    return t > NEAR && t < limit ? t : FAR;
}

/* A hollow cylinder closed by two spheres; seen from outside only, which is all that opaque shapes need. */
static double capsule_distance(const ray *r, const shape *s, double limit) {
    vec axis = subtract(s->b, s->a), o = subtract(r->from, s->a);
    double length = dot(axis, axis), along = dot(axis, r->to), start = dot(axis, o);
    double a = length - along * along;
    double b = length * dot(o, r->to) - start * along;
    double c = length * dot(o, o) - start * start - s->radius * s->radius * length;
    double d = b * b - a * c, best = FAR;
    if (a > 1e-12) {
        if (d < 0) return FAR;
        double t = (-b - square_root(d)) / a, place = start + t * along;
        if (place > 0 && place < length) return t > NEAR && t < limit ? t : FAR;
    }
    best = sphere_distance(r, s->a, s->radius, limit);
    return lesser(best, sphere_distance(r, s->b, s->radius, lesser(limit, best)));
}

static int is_sphere(const shape *s) { return s->a.x == s->b.x && s->a.y == s->b.y && s->a.z == s->b.z; }

static double shape_distance(const ray *r, const shape *s, double limit) {
    return is_sphere(s) ? sphere_distance(r, s->a, s->radius, limit) : capsule_distance(r, s, limit);
}

static vec normal_of(const shape *s, vec point) {
    vec axis = subtract(s->b, s->a), o = subtract(point, s->a);
    double length = dot(axis, axis), place = length > 0 ? dot(axis, o) / length : 0;
    return unit(subtract(o, scale(axis, lesser(1, greater(0, place)))));
}

/* ------------------------------------------------------------------ tree of boxes */

static double component(vec v, int axis) { return axis == 0 ? v.x : axis == 1 ? v.y : v.z; }
static double centre_of(const shape *s, int axis) { return component(s->a, axis) + component(s->b, axis); }

static void build(uint32_t index, uint32_t first, uint32_t count) {
    box bounds = bounds_of(&shapes[first]);
    for (uint32_t i = 1; i < count; i++) bounds = around(bounds, bounds_of(&shapes[first + i]));
    tree[index] = (node){bounds, first, count};
    if (count <= 2) return;
    vec size = subtract(bounds.high, bounds.low);
    int axis = size.x >= size.y && size.x >= size.z ? 0 : size.y >= size.z ? 1 : 2;
    /* Insertion sort: the order of equal centres is the same everywhere, which qsort does not promise. */
    for (uint32_t i = first + 1; i < first + count; i++) {
        shape s = shapes[i];
        uint32_t j = i;
        for (; j > first && centre_of(&shapes[j - 1], axis) > centre_of(&s, axis); j--) shapes[j] = shapes[j - 1];
        shapes[j] = s;
    }
    uint32_t children = nodes;
    nodes += 2;
    tree[index].first = children;
    tree[index].count = 0;
    build(children, first, count / 2);
    build(children + 1, first + count / 2, count - count / 2);
}

static double box_distance(const ray *r, vec inverse, const box *b, double limit) {
    double x0 = (b->low.x - r->from.x) * inverse.x, x1 = (b->high.x - r->from.x) * inverse.x;
    double y0 = (b->low.y - r->from.y) * inverse.y, y1 = (b->high.y - r->from.y) * inverse.y;
    double z0 = (b->low.z - r->from.z) * inverse.z, z1 = (b->high.z - r->from.z) * inverse.z;
    double enter = greater(greater(lesser(x0, x1), lesser(y0, y1)), lesser(z0, z1));
    double leave = lesser(lesser(greater(x0, x1), greater(y0, y1)), greater(z0, z1));
    return enter <= leave && leave > 0 && enter < limit ? enter : FAR;
}

static double inverse_of(double x) { return x < 1e-12 && x > -1e-12 ? (x < 0 ? -1e12 : 1e12) : 1 / x; }

/* The nearest shape on a ray; for a shadow any shape but glass, which lets the sun through. */
static const shape *nearest(const ray *r, double *distance, int shadow) {
    vec inverse = {inverse_of(r->to.x), inverse_of(r->to.y), inverse_of(r->to.z)};
    uint32_t stack[64], top = 0, current = 0;
    const shape *found = NULL;
    if (nodes == 0 || box_distance(r, inverse, &tree[0].bounds, *distance) == FAR) return NULL;
    for (;;) {
        const node *n = &tree[current];
        if (n->count > 0) {
            for (uint32_t i = n->first; i < n->first + n->count; i++) {
                if (shadow && shapes[i].material == GLASS) continue;
                double t = shape_distance(r, &shapes[i], *distance);
                if (t < *distance) {
                    *distance = t;
                    found = &shapes[i];
                    if (shadow) return found;
                }
            }
        } else {
            uint32_t one = n->first, other = n->first + 1;
            double t1 = box_distance(r, inverse, &tree[one].bounds, *distance);
            double t2 = box_distance(r, inverse, &tree[other].bounds, *distance);
            if (t2 < t1) {
                uint32_t u = one;
                double t = t1;
                one = other, other = u, t1 = t2, t2 = t;
            }
            if (t2 < FAR) stack[top++] = other;
            if (t1 < FAR) {
                current = one;
                continue;
            }
        }
        if (top == 0) return found;
        current = stack[--top];
    }
}

/* ------------------------------------------------------------------ water and sky */

/* A smooth wave of period 4 between -1 and 1: two parabolas, as good as a sine here and the same everywhere. */
static double wave(double x) {
    double whole = (double)(int64_t)(x * 0.25), t = x - 4 * whole;
    if (t < 0) t += 4;
    return t < 2 ? t * (2 - t) : -(t - 2) * (4 - t);
}

static vec water_normal(vec p, double distance) {
    double fade = water.waves / (1 + 0.004 * distance * distance);
    double x = wave(1.9 * p.x + 0.7 * p.z) + 0.6 * wave(4.3 * p.x - 2.9 * p.z + 1.3) + 0.4 * wave(9.1 * p.z + 5.2 * p.x);
    double z = wave(2.3 * p.z - 0.9 * p.x + 0.5) + 0.6 * wave(5.1 * p.z + 2.2 * p.x) + 0.4 * wave(8.3 * p.x - 7.7 * p.z);
    return unit(vector(fade * x, 1, fade * z));
}

static vec sky_colour(vec direction, int with_sun) {
    double height = greater(0, direction.y), toward = greater(0, dot(direction, sun.direction));
    double t = square_root(height), glow = toward * toward;
    vec colour = mix(sky.horizon, sky.zenith, t);
    glow *= glow, glow *= glow;                 /* ^8 */
    colour = add(colour, scale(sun.colour, 0.010 * glow));
    glow *= glow, glow *= glow, glow *= glow;   /* ^64 */
    colour = add(colour, scale(sun.colour, 0.035 * glow));
    if (with_sun && toward > 1 - sun.size) colour = add(colour, scale(sun.colour, 4));
    return colour;
}

static double schlick(double cosine, double base) {
    double m = 1 - cosine, m2 = m * m;
    return base + (1 - base) * m2 * m2 * m;
}

static int find(const ray *r, hit *h) {
    h->distance = FAR;
    h->shape = nearest(r, &h->distance, 0);
    if (r->to.y < 0 && r->from.y > 0) {
        double t = -r->from.y / r->to.y;
        if (t > NEAR && t < h->distance && t < 400) {
            h->distance = t;
            h->shape = NULL;
            h->normal = water_normal(at(r, t), t);
            return 1;
        }
    }
    if (h->shape == NULL) return 0;
    h->normal = normal_of(h->shape, at(r, h->distance));
    return 1;
}

static vec sunlight(vec point, vec normal, random_state *random) {
    vec toward = unit(add(sun.direction, scale(within_ball(random), square_root(2 * sun.size))));
    double cosine = dot(normal, toward), distance = FAR;
    if (cosine <= 0) return vector(0, 0, 0);
    ray shadow = {add(point, scale(normal, 1e-4)), toward};
    return nearest(&shadow, &distance, 1) ? vector(0, 0, 0) : scale(sun.colour, cosine);
}

/* ------------------------------------------------------------------ paths */

static vec radiance(ray r, random_state *random) {
    vec light = {0, 0, 0}, through = {1, 1, 1};
    /* Small lights found by chance after a dull surface would be noise: there, only the sun is asked for. */
    int sees_lights = 1;
    for (uint32_t bounce = 0; bounce < picture.bounces; bounce++) {
        hit h;
        if (!find(&r, &h)) return add(light, tint(through, sky_colour(r.to, sees_lights)));
        vec point = at(&r, h.distance), normal = h.normal;
        double facing = dot(r.to, normal);
        if (h.shape == NULL) {
            double mirrored = schlick(lesser(1, greater(0, -facing)), 0.03);
            light = add(light, scale(tint(through, water.colour), 1 - mirrored));
            through = scale(through, mirrored);
            r.to = reflect(r.to, normal);
            if (r.to.y < 0.001) r.to.y = 0.001;
            r.to = unit(r.to);
            r.from = vector(point.x, 1e-4, point.z);
            sees_lights = 1;
        } else if (h.shape->material == LIGHT) {
            return sees_lights ? add(light, tint(through, h.shape->colour)) : light;
        } else if (h.shape->material == DIFFUSE) {
            if (facing > 0) normal = scale(normal, -1);
            through = tint(through, h.shape->colour);
            light = add(light, tint(through, sunlight(point, normal, random)));
            r.to = unit(add(normal, unit(within_ball(random))));
            r.from = add(point, scale(normal, 1e-4));
            sees_lights = 0;
        } else if (h.shape->material == METAL) {
            through = tint(through, h.shape->colour);
            r.to = unit(add(reflect(r.to, normal), scale(within_ball(random), h.shape->roughness)));
            if (dot(r.to, normal) <= 0) return light;
            r.from = add(point, scale(normal, 1e-4));
            sees_lights = 1;
        } else {
            double ratio = facing < 0 ? 1 / 1.33 : 1.33;
            if (facing > 0) {
                normal = scale(normal, -1);
                through = tint(through, h.shape->colour);
            }
            double cosine = lesser(1, -dot(r.to, normal)), rest = 1 - ratio * ratio * (1 - cosine * cosine);
            double slant = facing < 0 ? cosine : square_root(greater(0, rest));
            if (rest < 0 || chance(random) < schlick(slant, 0.02)) {
                r.to = unit(reflect(r.to, normal));
                r.from = add(point, scale(normal, 1e-4));
            } else {
                r.to = unit(add(scale(r.to, ratio), scale(normal, ratio * cosine - square_root(rest))));
                r.from = subtract(point, scale(normal, 1e-4));
            }
            sees_lights = 1;
        }
        if (bounce >= 2) {
            double keep = lesser(0.95, greater(through.x, greater(through.y, through.z)));
            if (chance(random) >= keep) return light;
            through = scale(through, 1 / keep);
        }
    }
    return light;
}

static ray camera_ray(double x, double y, random_state *random) {
    vec to = add(camera.forward, add(scale(camera.right, x), scale(camera.up, y)));
    vec focus = add(camera.eye, scale(to, camera.focus)), from = camera.eye;
    if (camera.lens > 0) {
        double a, b;
        do a = 2 * chance(random) - 1, b = 2 * chance(random) - 1;
        while (a * a + b * b >= 1);
        from = add(from, add(scale(unit(camera.right), a * camera.lens), scale(unit(camera.up), b * camera.lens)));
    }
    return (ray){from, unit(subtract(focus, from))};
}

/* ------------------------------------------------------------------ colour */

/* A filmic curve, then the sRGB curve, both without pow(). */
static uint8_t encode(double x) {
    x = greater(0, x);
    x = lesser(1, x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14));
    double s1 = square_root(x), s2 = square_root(s1), s3 = square_root(s2);
    double s = x < 0.0031308 ? 12.92 * x : 0.585122381 * s1 + 0.783140355 * s2 - 0.368262736 * s3;
    return (uint8_t)(lesser(1, greater(0, s)) * 255 + 0.5);
}

static void render_pixel(uint32_t x, uint32_t y, uint8_t *out) {
    random_state random = random_of(y * picture.width + x);
    vec sum = {0, 0, 0};
    for (uint32_t i = 0; i < picture.samples; i++) {
        double px = (x + chance(&random)) / picture.width * 2 - 1, py = 1 - (y + chance(&random)) / picture.height * 2;
        vec light = radiance(camera_ray(px, py, &random), &random);
        /* A path of little chance and great light would be a lone white dot. */
        sum = add(sum, vector(lesser(light.x, 12), lesser(light.y, 12), lesser(light.z, 12)));
    }
    sum = scale(sum, 1.0 / picture.samples);
    out[0] = encode(sum.x);
    out[1] = encode(sum.y);
    out[2] = encode(sum.z);
}

/* ------------------------------------------------------------------ input */

static uint8_t input[HEADER_BYTES + SHAPES_MAX * SHAPE_BYTES + 1];
static const uint8_t *cursor = input;

static void refuse(const char *why) {
    fprintf(stderr, "pathtracer: %s\n", why);
    exit(1);
}

static uint32_t read_u32(void) {
    uint32_t value = cursor[0] | cursor[1] << 8 | cursor[2] << 16 | (uint32_t)cursor[3] << 24;
    cursor += 4;
    return value;
}

static double read_f64(void) {
    uint64_t bits = read_u32();
    bits |= (uint64_t)read_u32() << 32;
    double value;
    memcpy(&value, &bits, 8);
    if (!(value > -1e9 && value < 1e9)) refuse("a number of the scene is not within a billion");
    return value;
}

static vec read_vec(void) {
    vec v;
    v.x = read_f64(), v.y = read_f64(), v.z = read_f64();
    return v;
}

static void read_input(void) {
    size_t size = fread(input, 1, sizeof input, stdin);
    if (size < HEADER_BYTES || memcmp(input, "NRND\1\0\0\0", 8) != 0) refuse("the input is not a scene of version 1");
    cursor += 8;
    picture.width = read_u32(), picture.height = read_u32();
    picture.x = read_u32(), picture.y = read_u32(), picture.w = read_u32(), picture.h = read_u32();
    picture.samples = read_u32(), picture.bounces = read_u32(), picture.seed = read_u32(), picture.shapes = read_u32();
    if (picture.width == 0 || picture.width > 65536 || picture.height == 0 || picture.height > 65536)
        refuse("a picture has 1 to 65536 pixels each way");
    if (picture.w == 0 || picture.h == 0 || picture.x >= picture.width || picture.w > picture.width - picture.x
        || picture.y >= picture.height || picture.h > picture.height - picture.y)
        refuse("the tile is not within the picture");
    if ((uint64_t)picture.w * picture.h > PIXELS_MAX) refuse("a tile has at most 1048576 pixels");
    if (picture.samples == 0 || picture.bounces == 0) refuse("samples and bounces are at least 1");
    if (picture.shapes > SHAPES_MAX) refuse("a scene has at most 1024 shapes");
    if (size != HEADER_BYTES + (size_t)picture.shapes * SHAPE_BYTES) refuse("the input is longer or shorter than its shapes");
    camera.eye = read_vec(), camera.right = read_vec(), camera.up = read_vec(), camera.forward = read_vec();
    camera.lens = read_f64(), camera.focus = read_f64();
    sun.direction = read_vec(), sun.colour = read_vec(), sun.size = read_f64();
    sky.horizon = read_vec(), sky.zenith = read_vec();
    water.colour = read_vec(), water.waves = read_f64();
    for (uint32_t i = 0; i < picture.shapes; i++) {
        shape *s = &shapes[i];
        s->material = read_u32();
        read_u32();
        if (s->material >= MATERIALS) refuse("a shape has an unknown material");
        s->a = read_vec(), s->b = read_vec(), s->radius = read_f64();
        s->colour = read_vec(), s->roughness = read_f64();
        if (!(s->radius > 0)) refuse("a shape has a radius above 0");
    }
}

int main(void) {
    static uint8_t pixels[PIXELS_MAX * 3];
    read_input();
    if (picture.shapes > 0) {
        nodes = 1;
        build(0, 0, picture.shapes);
    }
    uint8_t *out = pixels;
    for (uint32_t y = picture.y; y < picture.y + picture.h; y++)
        for (uint32_t x = picture.x; x < picture.x + picture.w; x++, out += 3) render_pixel(x, y, out);
    size_t size = (size_t)(out - pixels);
    if (fwrite(pixels, 1, size, stdout) != size || fflush(stdout) != 0) refuse("the pixels could not be written");
    return 0;
}
