"""The app: `streamlit run app.py`, on the store that FEEDBACKLOOP_STORE names, or loop.duckdb in the working directory."""

import streamlit as st

from feedbackloop.pages import address, context

st.set_page_config(page_title="feedbackloop", page_icon=context.ICON, layout="wide", initial_sidebar_state=220)
context.fill()
address.restore()

pages = {
    name: st.Page(page.path, title=page.title, icon=page.icon, url_path=name, default=name == "home")
    for name, page in context.PAGES.items()
}

if context.is_raters_link():
    # Who follows an invitation to rate is shown nothing that could give a variant away.
    # Its address may name the page or not: of several pages, one has to stand for the bare address.
    alone = st.Page(context.PAGES["rate"].path, title=context.PAGES["rate"].title, url_path="invited", default=True)
    chosen = st.navigation([alone, pages["rate"]], position="hidden")
else:
    groups = {
        group: [pages[name] for name, page in context.PAGES.items() if page.group == group] for group in context.GROUPS
    }
    chosen = st.navigation(groups)
    context.sidebar()

context.run(chosen)
