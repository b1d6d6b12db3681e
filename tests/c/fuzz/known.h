/* Ids that are published once within dedup_window: which were, when, and of which a death, or a window that became longer,
 * left it open. */
#ifndef FUZZ_KNOWN_H
#define FUZZ_KNOWN_H

#include "model.h"
#include "tape.h"

void known_reset(void);
/* One of few ids, so that it is met again. */
void draw_unique(struct tape *t, struct message *m);
bool is_unique(const struct message *m); /* as the configuration is now */
bool same_id(const struct message *a, const struct message *b); /* and both unique */
/* Whether the publish must be refused (1), must not (0), or may be (-1). */
int known(const struct message *m);
void known_published(const struct message *m);
void known_refused(const struct message *m);
void known_perhaps(const struct message *m); /* nobody can tell whether it was published */
/* Before the window changes: what is older than the present one (0: all) may be forgotten, and a longer one would ask for it. */
void known_window_ends(void);

#endif
